"""LoRA's factors in peft's files, read and written, beside peft itself."""

import os

import jax
import numpy as np
import peft
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file

from models import pretrained
from models.build import build
from models.pretrained.arrays import leaf_shapes
from models.pretrained.peft import reading, writing
from tests.helpers import hf_reference as reference
from tests.helpers.hf_decoders import (
  LAYOUTS,
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
  'bert': (transformers.BertForMaskedLM, BERT),
  'bert-classes': (
    transformers.BertForSequenceClassification,
    BERT | {'num_labels': 3},
  ),
  'bert-body': (transformers.BertModel, BERT),
  'roberta': (
    transformers.RobertaForSequenceClassification,
    BERT | {'num_labels': 3, 'pad_token_id': 1, 'type_vocab_size': 1},
  ),
  't5': (transformers.T5ForConditionalGeneration, T5),
}


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
  if name == 'bert-body':
    out = found.pooler_output
  else:
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
  for key in ('logits', 'classes', 'pooled'):
    out = out[key] if isinstance(out, dict) and key in out else out
  return np.asarray(next(iter(out.values())) if isinstance(out, dict) else out)


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


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Makes a base's folder, and reads it, once: name -> folder, config, flat."""
  made = {}

  def get(name):
    if name not in made:
      folder = tmp_path_factory.mktemp('base') / name
      reference.saved(make(name), folder)
      config, params = pretrained.load(str(folder))
      made[name] = str(folder), config, flatten_dict(params, sep='/')
    return made[name]

  return get


def model_type(folder):
  return pretrained.kept_fields(folder)[0]


@pytest.mark.parametrize('name', [*LAYOUTS, *OTHERS])
def test_our_files_in_peft(folders, tmp_path, name):
  folder, config, flat = folders(name)
  factors = factors_of(config, tables=name == 'llama1')
  heads = ('classes',) if 'classes' in name else ()
  path = str(tmp_path / 'adapter')
  kept = pretrained.kept_fields(folder)[1]
  writing.save(
    config, flat, factors, path, rank=R, alpha=ALPHA, heads=heads, kept=kept
  )
  model = peft.PeftModel.from_pretrained(make(name), path).eval()
  loaded = [x for x, _ in model.named_parameters() if 'lora_' in x]
  assert len(loaded) == sum('.lora_' in x for x in load_file(
    os.path.join(path, writing.WEIGHTS)
  ))  # fmt: skip
  batch = {key: x[[0, 1, 3]] for key, x in make_batch().items()}
  theirs, real = theirs_of(name, model, batch)
  found = reading.read(path, config, model_type(folder))
  assert found.factors.keys() == factors.keys()
  for key, x in factors.items():
    np.testing.assert_array_equal(found.factors[key], x, key)
  assert (found.terms.rank, found.terms.alpha) == (R, ALPHA)
  assert {x.split('/')[0] for x in found.heads} == {*heads}
  reading.check_base(path, found, flat)
  ours = ours_of(config, reading.merged(found, flat), batch)
  reference.close(ours, theirs, real)
  plain, _ = theirs_of(name, make(name), batch)
  assert np.abs(plain - theirs)[real].max() > 0.05


def their_adapter(name, path, **changes):
  settings = {'r': R, 'lora_alpha': ALPHA, 'target_modules': 'all-linear'}
  if name == 'gpt1':  # its attention alone
    settings['target_modules'] = ['c_attn']
  model = peft.get_peft_model(
    make(name), peft.LoraConfig(**(settings | changes))
  )
  generator = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for key, p in model.named_parameters():
      if 'lora_' in key:
        p.copy_(0.2 * torch.randn(p.shape, generator=generator))
  model.save_pretrained(path)
  return model.eval()


@pytest.mark.parametrize('name', [*LAYOUTS, 'bert', 't5'])
def test_peft_s_files_here(folders, tmp_path, name):
  folder, config, flat = folders(name)
  path = str(tmp_path / 'adapter')
  model = their_adapter(name, path, lora_dropout=0.1)
  batch = {key: x[[0, 1, 3]] for key, x in make_batch().items()}
  theirs, real = theirs_of(name, model, batch)
  found = reading.read(path, config, model_type(folder))
  (note,) = found.terms.notes
  assert note.startswith('lora_dropout=0.1 is left out')
  ours = ours_of(config, reading.merged(found, flat), batch)
  reference.close(ours, theirs, real)
