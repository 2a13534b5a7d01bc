"""The page and the picture that train.fit makes of a step."""

import functools
import json

import jax
import pytest

from configs import llama
from train import fit
from train.fitting import chips, measure, meshes, picture, report, roofline
from train.fitting.program import Operation


def tiny():
  config = llama.get_config('tiny')
  config.data.source = 'synthetic'
  meshes.apply(config, meshes.parse('fsdp=4,tensor=2', 8, 'here'))
  return config


@functools.cache
def found():
  """As if the devices here were chips of a v5e."""
  return fit.fit(tiny(), jax.devices(), chips.chip_named('v5e'))


def test_parts_sum():
  x = found()
  assert sum(x['memory'].values()) == x['peak']
  assert x['margin'] == x['limit'] - x['peak']
  assert x['fits']
  total = sum(part['seconds'] for part in x['groups'])
  assert total == pytest.approx(x['compute_seconds'])
  assert x['step_seconds'] == pytest.approx(total + x['exposed_seconds'])
  rate = x['flops'] / 8 / 197e12
  assert x['mfu'] == pytest.approx(rate / x['step_seconds'])
  # Nothing is computed twice without remat, and products are all of it.
  assert x['executed_over_model'] == pytest.approx(1, abs=0.01)
  assert {row['axes'] for row in x['collectives']} <= {
    'fsdp',
    'tensor',
    'fsdp x tensor',
  }


def test_a_page():
  text = report.page('llama tiny on 8', found())
  assert max(map(len, text.splitlines())) <= 88
  for words in (
    'Fits: ',
    'saved activations',
    'Largest buffers',
    'models/layers.py:',
    "of the model's: 1.00 times",
    'all-gather',
    'attention scores',
    'step = compute + exposed collectives',
  ):
    assert words in text


def test_json():
  assert json.loads(json.dumps(found())) == found()


def test_a_table():
  long = 'fsdp=140,sequence=2,tensor=8'
  rows = [('fsdp=8', found()), (long, 'refused: the batch of 3 rows')]
  first, one, other = report.table(rows).splitlines()
  assert first.split()[:3] == ['mesh', 'fits', 'needs']
  assert one.split()[:2] == ['fsdp=8', 'yes']
  assert other.startswith(f'  {long} refused')
  assert one.index('yes') == other.index('refused')


def test_a_picture(tmp_path):
  for name, x in (('a.png', found()), ('b.png', bounded())):
    picture.draw(str(tmp_path / name), 'title', x)
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')


def bounded():
  setup, batch = fit.prepared(tiny(), jax.devices())
  return measure.bounds(setup, batch, chips.chip_named('h100'))


def test_bounds_without_a_compiler():
  x, whole = bounded(), found()
  assert x['fits'] is None
  assert x['memory']['parameters'] == whole['memory']['parameters']
  assert x['memory']['optimizer'] == whole['memory']['optimizer']
  assert x['memory']['gradients'] == x['memory']['parameters']
  assert x['least_seconds'] >= x['flops'] / 8 / 989.4e12
  assert 'No compiler for h100 is here' in report.page('x', x)


PATHS = {
  'jit(train_step)/jvp(Decoder)/decoder/while/body/closed_call/layers/mlp/input'
  '/dot_general': 'MLP',
  'jit(train_step)/transpose(jvp(Decoder))/decoder/layers/attention.keys_values'
  '/key/dot_general': 'projections',
  'jit(train_step)/jvp(Decoder)/decoder/layers/attention/shard_map/pallas_call':
  'attention scores',
  'jit(train_step)/jvp(Encoder)/encoder/layers/attention/BTKGH,BSKH->BKGTS'
  '/dot_general': 'attention scores',
  'jit(train_step)/jvp(EncoderDecoder)/decoder/layers/cross_attention/output'
  '/dot_general': 'projections',
  'jit(train_step)/jvp(Decoder)/decoder/layers/attention_norm/mul':
  'norms and elementwise',
  'jit(train_step)/transpose(jvp(Decoder))/vocabulary/dot_general':
  'vocabulary and loss',
  'jit(train_step)/transpose(jvp(Decoder))/embed/jit(_take)/scatter-add':
  'vocabulary and loss',
  'jit(train_step)/jvp()/reduce_sum': 'vocabulary and loss',
  'jit(train_step)/mul': 'optimizer',
  'jit(train_step)/transpose(jvp(EncoderDecoder))/decoder/layers/attention'
  '/drop_values/select_n': 'dropout',
  'jit(train_step)/jvp(Decoder)/decoder/while/body/jit(dynamic_index_in_dim)'
  '/dynamic_slice': 'copies',
  '': 'copies',
}  # fmt: skip


@pytest.mark.parametrize('path', PATHS)
def test_groups(path):
  product = path.endswith(('dot_general', 'pallas_call'))
  operation = Operation(path, 'fusion', 1, 8, 1, 8 if product else 0)
  assert roofline.group_of(operation) == PATHS[path]


def test_lora_beside_a_base_in_bfloat16():
  """What is frozen takes half, and the optimizer is of what is trained."""
  config = tiny()
  config.tuning.train, config.tuning.rank, config.tuning.alpha = 'lora', 4, 8.0
  config.tuning.matrices = ('attention/query', 'mlp/output', 'embed/table')
  chip, found = chips.chip_named('h100'), {}
  for dtype in ('', 'bfloat16'):
    config.tuning.base_dtype = dtype
    parts = fit.prepared(config, jax.devices())
    found[dtype] = measure.bounds(*parts, chip)
  wide, narrow = (x['kept'] for x in found.values())
  assert narrow['trained'] == wide['trained']
  vectors = narrow['frozen']['float32']  # norms
  assert vectors < 0.01 * wide['frozen']['float32']
  matrices = wide['frozen']['float32'] - vectors
  assert narrow['frozen']['bfloat16'] == matrices // 2
  state, trained = found['bfloat16']['state'], narrow['trained']['float32']
  assert state['parameters'] == trained + vectors + matrices // 2
  assert 0 <= state['optimizer'] - 2 * trained < 64  # Adam's, and counts
  assert found['bfloat16']['memory']['gradients'] == trained
  text = ' '.join(report.page('llama', found['bfloat16']).split())
  assert 'Parameters: trained' in text
  assert 'of what is trained alone' in text
