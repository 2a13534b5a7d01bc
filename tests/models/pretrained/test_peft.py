"""LoRA's factors in peft's files, read and written, beside peft itself."""

import dataclasses
import json
import os
import re
import shutil
import types

import jax
import numpy as np
import peft
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file, save_file

from models import pretrained
from models.build import build
from models.pretrained.arrays import leaf_shapes
from models.pretrained.peft import reading, writing
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import (
  V,
  make_batch,
  of_real_tokens,
  torch_logits,
  torch_model,
)

R, ALPHA = 3, 6.0
SIZES = {'vocab_size': V, 'num_attention_heads': 2}
BERT = SIZES | {
  'hidden_size': 24,
  'intermediate_size': 40,
  'num_hidden_layers': 2,
  'max_position_embeddings': 32,
}
T5 = {
  'vocab_size': V,
  'd_model': 24,
  'd_kv': 8,
  'd_ff': 40,
  'num_layers': 2,
  'num_heads': 3,
  'feed_forward_proj': 'gated-gelu',
  'tie_word_embeddings': False,
  'decoder_start_token_id': 0,
}
OTHERS = {
  'bert': (
    transformers.BertForSequenceClassification,
    BERT | {'num_labels': 3},
  ),
  't5': (transformers.T5ForConditionalGeneration, T5),
}
# Slices of a fused matrix; parts of each head; fused by head; tables; no
# attention; a head beside the body; two stacks. (gpt1, gpt_neox, opt, BERT's
# body and RoBERTa differ in names alone.)
CASES = 'gpt2', 'gptj', 'bloom', 'llama1', 'rwkv', 'bert', 't5'


def make(name):
  if name not in OTHERS:
    return torch_model(name)
  cls, fields = OTHERS[name]
  torch.manual_seed(0)
  return reference.randomise(cls(cls.config_class(**fields)))


def theirs_of(name, model, batch):
  """The outputs of a torch model, and where they mean something."""
  if name not in OTHERS:
    logits = torch_logits(name, model, batch)
    return logits.detach().numpy(), of_real_tokens(batch, logits)
  ids, mask = (
    torch.from_numpy(batch[key]).long() for key in ('inputs', 'segments')
  )
  if name == 't5':
    ids = ids.clip(2)
  more = {'decoder_input_ids': ids.flip(0)} if name == 't5' else {}
  found = model(input_ids=ids, attention_mask=mask, **more)
  out = found.logits
  real = (batch['segments'] > 0) if out.ndim == 3 else np.ones(len(out), bool)
  if name == 't5':
    real = np.ones(out.shape[:2], bool)
  return out.detach().numpy(), real


def ours_of(config, flat, batch):
  model = build(config)
  if config.family == 'encoder_decoder':
    ids = batch['inputs'].clip(2)
    batch = {
      'encoder_inputs': ids,
      'encoder_segments': batch['segments'],
      'inputs': ids[::-1],
      'segments': np.ones_like(batch['segments']),
    }
  params = {'params': unflatten_dict(flat, sep='/')}
  inputs = {key: batch[key] for key in model.INPUTS if key in batch}
  if config.family == 'encoder':  # padding is at the end
    inputs.pop('positions')
  with jax.default_matmul_precision('highest'):
    out = jax.jit(model.apply)(params, **inputs)
  found = jax.tree.leaves(out)
  return np.asarray(found[0])


def factors_of(config, tables=False):
  """Random factors of every kernel of the trunk, by path."""
  rng, out = np.random.default_rng(3), {}
  for leaf, shape in leaf_shapes(config).items():
    top = leaf.split('/')[0]
    named = leaf in ('vocabulary/output', 'embed/table')
    kernel = leaf.endswith('/kernel') and top in (
      *('embed', 'encoder', 'decoder', 'vocabulary'),
    )
    if not (kernel or (tables and named)):
      continue
    *layers, rows, columns = shape
    at = leaf.removesuffix('/kernel')
    for name, size in (('a', (rows, R)), ('b', (R, columns))):
      x = 0.2 * rng.standard_normal((*layers, *size))
      out[f'{at}/{name}'] = x.astype('float32')
  return out


def their_adapter(name, path, names=()):
  """peft's own adapter of linear layers, saved as peft does."""
  every = ['query', 'value', 'output.dense'] if name == 'bert' else 'all-linear'
  every = names or every
  settings = peft.LoraConfig(
    r=R, lora_alpha=ALPHA, target_modules=every, lora_dropout=0.1
  )
  model = peft.get_peft_model(make(name), settings)
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for key, p in model.named_parameters():
      if 'lora_' in key:
        p.copy_(0.2 * torch.randn(p.shape, generator=generator))
  model.save_pretrained(path)
  return model.eval()


@pytest.mark.parametrize('name', CASES)
def test_files_both_ways(name, tmp_path):
  plain = make(name)
  base = reference.saved(plain, tmp_path / 'base')
  config, params = pretrained.load(base)
  flat = flatten_dict(params, sep='/')
  kind, kept = pretrained.kept_fields(base)
  batch = {key: x[[0, 1, 3]] for key, x in make_batch().items()}
  first, real = theirs_of(name, plain, batch)

  # Ours in peft, and here again.
  factors = factors_of(config, tables=name == 'llama1')
  heads, path = ('classes',) * (name == 'bert'), str(tmp_path / 'ours')
  writing.save(
    config, flat, factors, path, rank=R, alpha=ALPHA, heads=heads, kept=kept
  )
  model = peft.PeftModel.from_pretrained(plain, path).eval()
  held = load_file(os.path.join(path, writing.WEIGHTS))
  loaded = [x for x, _ in model.named_parameters() if 'lora_' in x]
  assert len(loaded) == sum('.lora_' in x for x in held)  # and no others
  theirs, _ = theirs_of(name, model, batch)
  assert np.abs(first - theirs)[real].max() > 0.05
  found = reading.read(path, config, kind)
  assert (found.terms.rank, found.terms.alpha) == (R, ALPHA)
  assert found.factors.keys() == factors.keys()
  for key, x in factors.items():
    np.testing.assert_array_equal(found.factors[key], x, key)
  assert {x.split('/')[0] for x in found.heads} == {*heads}
  reading.check_base(path, found, flat)
  merged = reading.merged(found, flat)
  reference.close(ours_of(config, merged, batch), theirs, real)
  matrix = f'{writing.places(factors)[0]}/kernel'
  with pytest.raises(ValueError, match='adapters of another base'):
    reading.check_base(path, found, flat | {matrix: 2 * flat[matrix]})

  # Beside a base with its layers apart, as `train.generate` opens it.
  settings, params = pretrained.load(base, scan=False)
  apart = flatten_dict(params, sep='/')
  found = reading.read(path, settings, kind)
  reading.check_base(path, found, apart)
  for key, x in reading.merged(found, apart).items():
    stacked, number = re.subn(r'/layer_\d+/', '/layers/', key)
    own = merged[stacked]
    own = own[int(re.search(r'layer_(\d+)', key)[1])] if number else own
    np.testing.assert_array_equal(x, own, key)
  # A file that a run with its layers apart wrote before.
  names = writing.places(found.factors)
  old = writing.fingerprint(apart, names, apart=True)
  assert old != found.base
  found = dataclasses.replace(reading.read(path, config, kind), base=old)
  reading.check_base(path, found, flat)

  # peft's own here.
  path = str(tmp_path / 'theirs')
  theirs, _ = theirs_of(name, their_adapter(name, path), batch)
  found = reading.read(path, config, kind)
  (note,) = found.terms.notes
  assert note.startswith('lora_dropout=0.1 is left out')
  reading.check_base(path, found, flat)  # they say nothing of their base
  merged = reading.merged(found, flat)
  reference.close(ours_of(config, merged, batch), theirs, real)


def test_files_with_tables_of_the_base(tmp_path):
  """peft adds the base's table and output projection if they have factors."""
  plain, path = make('llama1'), str(tmp_path / 'theirs')
  base = reference.saved(plain, tmp_path / 'base')
  config, params = pretrained.load(base)
  flat = flatten_dict(params, sep='/')
  batch = {key: x[[0, 1, 3]] for key, x in make_batch().items()}
  names = ['q_proj', 'embed_tokens', 'lm_head']
  theirs, real = theirs_of(
    'llama1', their_adapter('llama1', path, names), batch
  )
  held = load_file(os.path.join(path, writing.WEIGHTS))
  assert sum(x.endswith('.base_layer.weight') for x in held) == 2
  found = reading.read(path, config, pretrained.kept_fields(base)[0])
  assert not found.heads
  reading.check_base(path, found, flat)
  merged = reading.merged(found, flat)
  reference.close(ours_of(config, merged, batch), theirs, real)
  for leaf in 'embed/table', 'vocabulary/output':
    with pytest.raises(ValueError, match=f'{leaf} of its own, which differs'):
      reading.check_base(path, found, flat | {leaf: 2 * flat[leaf]})


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A LLaMA's config, and the folder of an adapter that peft saved."""
  folder = tmp_path_factory.mktemp('llama')
  base = reference.saved(make('llama1'), folder / 'base')
  their_adapter('llama1', str(folder / 'theirs'))
  return pretrained.read_config(base), folder / 'theirs'


def changed(files, tmp_path, **fields):
  """A copy of the adapter whose config has other fields."""
  config, folder = files
  copy = tmp_path / 'copy'
  shutil.copytree(folder, copy)
  path = copy / 'adapter_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))
  return config, copy


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'use_dora': True}, 'use_dora is True: LoRA here does not do that'),
    ({'bias': 'all'}, "bias is 'all': LoRA here trains no biases"),
    ({'init_lora_weights': 'pissa'}, "init_lora_weights is 'pissa': it chang"),
    ({'rank_pattern': {'q_proj': 7}}, r'rank_pattern is .* one alpha / rank'),
    ({'alpha_pattern': {'q_proj': 7}}, r'alpha_pattern is .* one alpha / rank'),
    ({'peft_type': 'IA3'}, "peft_type is 'IA3'; only LORA is read"),
    ({'r': 0}, 'r is 0; it must be a whole number'),
    ({'r': 5}, r'have rank 3, others 5 \(rank_pattern\)'),
    ({'some_new_idea': 0.5}, 'some_new_idea is 0.5: LoRA here does not do'),
  ],
)
def test_fields_that_are_refused_by_name(files, tmp_path, fields, message):
  config, copy = changed(files, tmp_path, **fields)
  with pytest.raises(ValueError, match=message):
    reading.read(str(copy), config, 'llama')


def test_rank_stabilised_scaling_is_read_as_another_alpha(files, tmp_path):
  config, copy = changed(files, tmp_path, use_rslora=True)
  found = reading.read(str(copy), config, 'llama')
  assert found.terms.scale == pytest.approx(ALPHA / R**0.5)
  assert any('use_rslora' in note for note in found.terms.notes)


def of_layer(number, name='q_proj'):
  start = f'base_model.model.model.layers.{number}.self_attn.{name}'
  return [f'{start}.lora_{x}.weight' for x in 'AB']


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (
      lambda x: {k: v for k, v in x.items() if k not in of_layer(1)},
      r'attention/query/kernel in 2 of 3 layers, and not in layer 1 \(layers_',
    ),
    (
      lambda x: {k: v for k, v in x.items() if k != of_layer(1)[1]},
      'has one of the two factors of model.layers.1.self_attn.q_proj',
    ),
    (
      lambda x: x | {of_layer(1)[0]: x[of_layer(1)[0]][:, :5].copy()},
      r'q_proj.lora_A.weight is 3x5 .*query.* 24 to 24: these are adapters of',
    ),
    (
      lambda x: {k.replace('q_proj', 'qkv'): v for k, v in x.items()},
      'factors of model.layers.0.self_attn.qkv, .* adapters of another base',
    ),
    (
      lambda x: x | {'base_model.model.lm_head.weight': np.ones((V, 24), 'f')},
      'lm_head.weight, which is no factor of LoRA',
    ),
  ],
)
def test_other_bases_are_errors(files, tmp_path, edit, message):
  config, copy = changed(files, tmp_path)
  path = copy / 'adapter_model.safetensors'
  save_file(edit(load_file(path)), path)
  with pytest.raises(ValueError, match=message):
    reading.read(str(copy), config, 'llama')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'tie_embeddings': True}, 'as the output projection'),
    ({'family': 'electra'}, "ELECTRA's pair is two models"),
    ({'shared_stacks': True}, 'transformers has two stacks'),
  ],
)
def test_what_peft_would_compute_otherwise(files, tmp_path, changes, message):
  config = types.SimpleNamespace(**vars(files[0]) | changes)
  with pytest.raises(ValueError, match=message):
    writing.check_save(config, str(tmp_path / 'new'), ['embed/table/a'])
