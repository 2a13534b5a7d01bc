"""Decoders and RWKV equal transformers' torch classes."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from models import pretrained
from models.build import build
from models.positions import alibi_slopes
from models.pretrained.arrays import leaf_shapes
from models.pretrained.fields import Fields
from models.pretrained.layouts import gpt2
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import (
  CASES,
  EAGER,
  GPT,
  LAYOUTS,
  InFiles,
  T,
  V,
  make_batch,
  of_real_tokens,
  torch_logits,
  torch_model,
)

PROMPT = 11  # tokens


def inputs_of(config, batch):
  return {key: batch[key] for key in build(config).INPUTS}


def against_torch(name, model, config, params):
  """Compares logits, and runs a loss backward through both models.

  Returns the largest difference of the logits, and our gradients; torch's
  weights then have theirs.
  """
  batch = make_batch()
  theirs = torch_logits(name, model, batch)
  real = of_real_tokens(batch, theirs)
  factor = reference.projection(theirs.shape, real=real)
  logits, grads = reference.outputs_and_gradients(
    config, params, inputs_of(config, batch), lambda x: jnp.sum(x * factor)
  )
  worst = reference.close(logits, theirs, real)
  (theirs * torch.from_numpy(factor)).sum().backward()
  return worst, grads


@pytest.mark.parametrize('name', CASES)
def test_logits_gradients_and_weights_equal_torch(name, tmp_path):
  layout = CASES[name][0]
  model = torch_model(name)
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  worst, grads = against_torch(name, model, config, params)
  worst_grad = reference.gradients_close(config, grads, InFiles(model), layout)
  print(f'\nLARGEST {name}: logits {worst:.1e}, gradients {worst_grad:.1e}')
  reference.round_trip(model, folder, tmp_path, layout.MODEL_TYPES[0])


@pytest.mark.parametrize('name', LAYOUTS)
def test_cached_steps_equal_torch(name, tmp_path):
  """The cache takes a prompt, padded on the left or not, then single tokens."""
  model = torch_model(name)
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  batch = {key: x[[0, 2]] for key, x in make_batch().items()}
  with torch.no_grad():
    theirs = torch_logits(name, model, batch)
  own = build(config)

  @jax.jit
  def step(params, tokens, cache, index, positions):
    return own.apply(
      {'params': params},
      tokens,
      cache,
      index,
      positions,
      batch['segments'] == 0,
      method='decode_step',
    )

  cache, logits = own.start_cache(2, T), []
  with jax.default_matmul_precision('highest'):
    for start in (0, *range(PROMPT, T)):
      stop = PROMPT if start == 0 else start + 1
      tokens, at = (batch[k][:, start:stop] for k in ('inputs', 'positions'))
      new, cache = step(params, tokens, cache, np.int32(start), at)
      logits.append(new)
  reference.close(np.concatenate(logits, axis=1), theirs, batch['segments'] > 0)


FAR = {
  'llama3.1': (
    100_000,
    {
      'head_dim': 32,
      'rope_theta': 500_000.0,
      'rope_scaling': {
        'rope_type': 'llama3',
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 8192,
      },
    },
  ),
  'llama1': (4000, {'head_dim': 32}),
  'gptj': (2000, {'n_positions': 2048}),
  'gpt_neox': (4000, {'rotary_emb_base': 10_000}),
}


@pytest.mark.parametrize('name', FAR)
def test_far_positions_equal_torch(name, tmp_path):
  """The last bit of a wavelength matters far from the start."""
  start, changes = FAR[name]
  model = torch_model(name, **changes)
  config, params = pretrained.load(reference.saved(model, tmp_path / 'theirs'))
  batch = make_batch()
  # The second half of the row is far from the first.
  batch['positions'] = batch['positions'] + np.where(np.arange(T) < 9, 0, start)
  batch['positions'] = batch['positions'].astype('int32')
  with torch.no_grad():
    theirs = torch_logits(name, model, batch)
  with jax.default_matmul_precision('highest'):
    logits = jax.jit(build(config).apply)(
      {'params': params}, **inputs_of(config, batch)
    )
  worst = reference.close(logits, theirs, batch['segments'] > 0)
  print(f'\nLARGEST {name} from {start} on: logits {worst:.1e}')


def as_gpt2s(tensors):
  """A GPT-Neo's weights, or their gradients, by GPT-2's names."""
  out, attention = {}, 'attn.attention.'
  for name, x in tensors.items():
    name = name.replace(f'{attention}out_proj', 'attn.c_proj')
    if f'{attention}q_proj' in name:
      parts = [tensors[name.replace('q_proj', f'{i}_proj')] for i in 'qkv']
      name, x = (
        name.replace(f'{attention}q_proj', 'attn.c_attn'),
        torch.cat(parts),
      )
    if attention not in name:
      out[name] = x.T if '.c_' in name and x.ndim == 2 else x
  return out


def test_windows_equal_torch(tmp_path):
  """GPT-Neo has GPT-3's layers: dense and banded ones alternate."""
  neo = transformers.GPTNeoConfig(
    **EAGER, vocab_size=V, hidden_size=30, num_layers=3, num_heads=5,
    intermediate_size=44, max_position_embeddings=T, window_size=4,
    attention_types=[[['global', 'local', 'global'], 1]],
  )  # fmt: skip
  torch.manual_seed(0)
  model = reference.randomise(transformers.GPTNeoForCausalLM(neo))
  fields = GPT | {'scale_attn_weights': False, 'n_inner': 44}
  dense = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields))
  lost = dense.load_state_dict(as_gpt2s(model.state_dict()), strict=False)
  biases = lost.missing_keys  # starts at 0, and GPT-Neo has none
  assert not lost.unexpected_keys
  assert all(name.endswith('c_attn.bias') for name in biases)
  config, params = pretrained.load(reference.saved(dense, tmp_path / 'dense'))
  config = dataclasses.replace(config, window=4, window_every=2)
  worst, grads = against_torch('gpt_neo', model, config, params)
  expected = as_gpt2s({n: p.grad for n, p in model.named_parameters()})
  ours = reference.under_their_names(config, grads, gpt2)
  assert ours.keys() - expected.keys() == set(biases)
  errors = [
    np.linalg.norm(ours[name] - x.numpy()) / x.norm().item()
    for name, x in expected.items()
  ]
  assert max(errors) < reference.GRADIENTS
  print(f'\nLARGEST gpt_neo: logits {worst:.1e}, gradients {max(errors):.1e}')


def test_slopes_of_any_number_of_heads_equal_torch():
  for heads in (1, 2, 3, 5, 6, 7, 12, 14, 16, 112):
    mask = torch.ones(1, 2)
    theirs = build_alibi_tensor(mask, heads, torch.float32)[:, 0, 1]
    np.testing.assert_allclose(alibi_slopes(heads), theirs, rtol=1e-6)


# ---- Files that do not fit, and other heads ---------------------------------


def edited(folder, change):
  """A checkpoint with changed tensors."""
  path = os.path.join(folder, 'model.safetensors')
  tensors = dict(load_file(path))
  change(tensors)
  save_file(tensors, path, metadata={'format': 'pt'})


@pytest.mark.parametrize('name', LAYOUTS)
def test_tensors_that_do_not_fit_are_named(name, tmp_path):
  model = torch_model(name)
  folder = reference.saved(model, tmp_path / 'theirs')
  victim = next(
    key
    for key in load_file(os.path.join(folder, 'model.safetensors'))
    if '.1.' in key and key.endswith('.weight')
  )
  edited(folder, lambda x: x.update(odd=np.zeros(3, 'float32')))
  with pytest.raises(ValueError, match='1 weights have no place.*: odd'):
    pretrained.load(folder)

  def longer(x):
    del x['odd']
    x[victim] = np.concatenate([x[victim], x[victim]])

  edited(folder, longer)
  with pytest.raises(ValueError, match=f'{victim} in .* has shape'):
    pretrained.load(folder)
  edited(folder, lambda x: x.pop(victim))
  with pytest.raises(ValueError, match=f'lacks 1 of .*: {victim}'):
    pretrained.load(folder)


def test_a_tied_table_must_be_its_copy(tmp_path):
  folder = reference.saved(torch_model('gpt2'), tmp_path / 'theirs')
  table = 'transformer.wte.weight'
  edited(folder, lambda x: x.update({'lm_head.weight': x[table].copy()}))
  pretrained.load(folder)
  edited(folder, lambda x: x.update({'lm_head.weight': x[table] + 1}))
  with pytest.raises(ValueError, match='differs from transformer.wte.weight'):
    pretrained.load(folder)


def test_published_files_without_prefix_and_with_masks(tmp_path):
  """gpt2's files have names of a body alone, and a mask for each layer."""
  model = torch_model('gpt2')
  folder = reference.saved(model, tmp_path / 'theirs')
  _, expected = pretrained.load(folder)

  def bare(x):
    for name in list(x):
      x[name.removeprefix('transformer.')] = x.pop(name)
    for i in range(3):
      x[f'h.{i}.attn.bias'] = np.ones((1, 1, T, T), 'float32')

  edited(folder, bare)
  _, found = pretrained.load(folder)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_new_head_on_a_published_body(tmp_path):
  folder = reference.saved(torch_model('llama3.1'), tmp_path / 'theirs')
  config, params = pretrained.load(folder, head='sequence', classes=4)
  assert params['classes']['dense']['kernel'].shape == (24, 4)
  assert 'vocabulary' not in params
  pretrained.save(config, params, str(tmp_path / 'again'))
  again = transformers.LlamaForSequenceClassification.from_pretrained(
    tmp_path / 'again'
  )
  assert again.score.weight.shape == (4, 24)
  with pytest.raises(ValueError, match="head is 'span'; .* no place for it"):
    pretrained.load(folder, head='span')
  with pytest.raises(ValueError, match='takes no LSTM when it is read; make'):
    pretrained.load(folder, head='sequence', classes=4, features='last')


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('llama1', 41),
    ('gptj', 41),
    ('gpt_neox', 41),
    ('rwkv', 41),
    ('llama3.1', 64),  # from its rope_scaling, 4 * 16
    ('gpt2', T),  # rows of a table
  ],
)
def test_the_length_of_rows_is_written_if_weights_do_not_show_it(
  name, expected, tmp_path
):
  folder = reference.saved(torch_model(name), tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  pretrained.save(config, params, str(tmp_path / 'again'), length=41)
  again = transformers.AutoConfig.from_pretrained(tmp_path / 'again')
  assert again.max_position_embeddings == expected


def test_an_exported_rwkv_is_evaluated_as_it_was_trained(tmp_path):
  """The model has more layers than transformers' rescale_every."""
  model = torch_model('rwkv', num_hidden_layers=7)
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  pretrained.save(config, params, str(tmp_path / 'again'))
  again = type(model).from_pretrained(tmp_path / 'again').eval()
  assert again.config.rescale_every == 0
  batch = make_batch()
  with jax.default_matmul_precision('highest'):
    ours = build(config).apply({'params': params}, **inputs_of(config, batch))
  reference.close(
    ours, torch_logits('rwkv', again, batch), batch['segments'] > 0
  )


def test_what_no_layout_expresses_is_refused(tmp_path):
  config = gpt2.read(Fields(CASES['gpt2'][2]), set())
  config = dataclasses.replace(config, window=4, window_every=2)
  shapes = leaf_shapes(config)
  flat = {leaf: np.zeros(shape, 'float32') for leaf, shape in shapes.items()}
  params = unflatten_dict(flat, sep='/')
  with pytest.raises(ValueError, match='gpt2 has no model.window=4'):
    pretrained.save(config, params, str(tmp_path / 'out'))
  assert not os.path.exists(tmp_path / 'out')
