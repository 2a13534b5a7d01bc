"""`train.loss_chunk`: the loss is the same, with fewer logits at once."""

import math
import re

import jax
import numpy as np
import pytest

from input_pipeline import pipeline
from models.build import build
from models.config import TransformerConfig
from models.logits import BY_SIZE, CHUNK, LIMIT, tokens_at_once
from tests.helpers.decoders import BASE
from tests.helpers.t5_reference import random_params
from tests.models.families import test_electra as electra
from tests.models.families.test_rwkv import FIELDS as RWKV
from tests.models.test_models import small_config
from tests.train.parallel.test_sharding import MESHES, make_config
from train.learning.criteria import criterion_for
from train.learning.state import create_state
from train.learning.step import eval_step
from train.learning.tokens import ADDED
from train.setup import set_up

B, T, P, V = 8, 22, 7, 800
DECODER = BASE | {'vocab_size': V, 'position': 'none', 'output_bias': True}
MASKED = electra.ENCODER | {'vocab_size': V, 'max_length': T}
T5 = {'vocab_size': V, 'dropout': 0.0}
MODELS = {
  'decoder': lambda: DECODER,
  'untied': lambda: DECODER | {'tie_embeddings': False, 'output_bias': False},
  'T5, scaled': lambda: vars(
    small_config(**T5, tie_embeddings=True, scale_output=True)
  ),
  'T5 1.1': lambda: vars(small_config(**T5)),
  'masked': lambda: MASKED | {'head': 'mlm'},
  'pairs': lambda: MASKED | {'head': 'mlm_nsp', 'table_dim': 0},
  'electra': lambda: electra.FIELDS | {'vocab_size': V, 'max_length': T},
  'rwkv': lambda: RWKV | {'vocab_size': V},
  'labels and text': lambda: DECODER | {'head': 'sequence_lm', 'classes': 3},
}
PLAIN = 0.0, 0.0, 0.0
MESH = {
  'model.encoder_layers': 1,
  'model.decoder_layers': 1,
  'model.vocab_size': 4096,
  'model.embed_dim': 16,
  'data.batch': 32,
}
ALL = 1e-2, 0.1, 1e-2  # z loss, label smoothing, largest logit


def make_batch(model, seed=0):
  """Packed rows; some end early, one is empty."""
  rng = np.random.default_rng(seed)
  masked = model.config.family in ('encoder', 'electra')
  N = P if masked else T
  read = np.arange(T) < rng.integers(T // 2, T + 1, (B, 1))
  read[-1] = False
  segments = read * (1 + (np.arange(T) >= T // 3))
  weights = rng.uniform(0, 2, (B, N)) * (rng.random((B, N)) < 0.8)
  weights[-1] = 0
  names = ('inputs', 'encoder_inputs')
  batch = {name: rng.integers(0, V, (B, T)) for name in names}
  batch |= {'segments': segments, 'encoder_segments': segments}
  batch |= {
    'positions': np.tile(np.arange(T), (B, 1)),
    'types': (segments > 1).astype(int),
    'predict_at': np.sort(rng.integers(0, T // 2, (B, P))),
    'targets': rng.integers(0, V, (B, N)),
    'is_next': rng.integers(0, 2, B),
    'labels': rng.integers(0, 3, B),
  }
  batch = {name: x.astype('int32') for name, x in batch.items()}
  if model.config.head == 'sequence_lm':
    weights = np.ones(B)
  return batch | {'weights': weights.astype('float32')}


def make_model(name, **changes):
  return build(TransformerConfig(**MODELS[name]() | changes))


def loss_of(model, batch, losses, chunk):
  """params -> what training minimises, and the sums."""
  criterion = criterion_for(model.config)
  model = model.clone(loss_chunk=chunk)

  def loss(params):
    rng = jax.random.key(1)
    sums = criterion.sums(model, params, batch, rng, *losses)
    means = criterion.means(sums)
    added = [means[name] for name in ADDED if name in means]
    return sum(added, means['loss']), sums

  return loss


def largest(text):
  """The most elements of a float32 array of a compiled program."""
  shapes = set(re.findall(r'\bf32\[([\d,]+)\]', text))
  return max((math.prod(map(int, x.split(','))) for x in shapes), default=0)


def assert_near(ours, expected, tolerance):
  """Each array's difference is small compared with its largest number.

  Or compared with a hundredth of the tree's: biases of keys change no loss.
  """
  least = max(np.abs(x).max() for x in jax.tree.leaves(expected)) / 100
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(expected),
    jax.tree.leaves(ours),
    strict=True,
  ):
    assert np.abs(y - x).max() <= tolerance * max(np.abs(x).max(), least), path


@pytest.mark.parametrize(
  ('name', 'losses'), [(name, ALL) for name in MODELS] + [('decoder', PLAIN)]
)
def test_loss_and_gradient(name, losses):
  """Chunks of 4 divide neither 22 tokens nor 7 predicted ones.

  The logits are never whole: neither forward nor backward, nor where ELECTRA
  draws samples from them.
  """
  model = make_model(name)
  batch, params = make_batch(model), random_params(model)
  logits = B * T * V
  if model.config.family in ('encoder', 'electra'):
    logits = B * P * V
  found = []
  for chunk in 0, 4 if logits == B * T * V else 2:
    loss = loss_of(model, batch, losses, chunk)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    step = step.lower(params).compile()
    assert (largest(step.as_text()) >= logits) == (chunk == 0)
    found.append(jax.device_get(step(params)))
  ((expected, sums), gradient), ((ours, chunked), own) = found
  assert ours == pytest.approx(expected, rel=1e-6)
  assert sums.keys() == chunked.keys()
  for key in sums:
    assert chunked[key] == pytest.approx(sums[key], rel=1e-6), key
  assert_near(own, gradient, 1e-5)


@pytest.mark.parametrize('chunk', [1, 5, 11, 21, 22, 1000])
def test_every_chunk(chunk):
  model = make_model('untied')
  batch, params = make_batch(model), random_params(model)
  expected, ours = (
    jax.device_get(eval_step(params, batch, model=model, loss_chunk=c))
    for c in (0, chunk)
  )
  assert ours.keys() == expected.keys()
  for key in ours:
    assert ours[key] == pytest.approx(expected[key], rel=1e-6), key


@pytest.mark.parametrize('name', ['decoder', 'masked'])
def test_bfloat16(name):
  """The logits are the same bits. Gradients are rounded once, to 2^-9, where
  the whole product's are; sums over chunks are float32."""
  model = make_model(name, dtype='bfloat16')
  batch, params = make_batch(model), random_params(model)
  (a, gradient), (b, ours) = (
    jax.device_get(
      jax.jit(
        jax.value_and_grad(loss_of(model, batch, PLAIN, chunk), has_aux=True)
      )(params)
    )
    for chunk in (0, 4)
  )
  assert b[0] == pytest.approx(a[0], rel=1e-6)
  assert_near(ours, gradient, 2**-7)


def train(preset, sizes, chunk, devices=None):
  """The text of the step, and parameters and metrics after two of them."""
  mesh = {f'sharding.mesh.{k}': n for k, n in ({'data': 1} | sizes).items()}
  own = {'sharding.rules': preset, 'train.loss_chunk': chunk}
  setup = set_up(make_config(**MESH | mesh | own), devices)
  data = pipeline.open_data(setup.data, 0, 64, family='encoder_decoder')
  state = create_state(
    setup.model, setup.optimizer, setup.state, data.start(), 0
  )
  batches = setup.place(data.batches(data.start(), setup.rows))
  step, metrics = setup.compile_step(setup.batch(data.shapes)), []
  for _ in range(2):
    state, found = step(state, next(batches))
    metrics.append([float(found[name]) for name in ('loss', 'z_loss')])
  return step.as_text(), jax.device_get(state.params), metrics


@pytest.fixture(scope='module')
def whole():
  return train('replicated', {'data': 1}, 0, jax.devices()[:1])


@pytest.mark.parametrize('preset', ['fsdp', 'tensor', 'fsdp_tensor'])
def test_meshes(whole, preset):
  """Eight devices with chunks are one device without.

  No device has its share of the logits. The gradient of the projection is
  added up over devices once: not in the loop.
  """
  sizes = MESHES[preset]
  text, params, metrics = train(preset, sizes, 5)
  np.testing.assert_allclose(metrics, whole[2], rtol=1e-5)
  assert_near(params, whole[1], 1e-4)

  rows, T = MESH['data.batch'], 8
  E, V = MESH['model.embed_dim'], MESH['model.vocab_size']
  assert largest(whole[0]) >= rows * T * V
  assert largest(text) < rows * T * V / 8
  share = E * V // sizes.get('tensor', 1)
  for line in loops(text):
    if re.search(r' (all-reduce|reduce-scatter|all-gather)(-start)?\(', line):
      assert largest(line) < share, line


def loops(text):
  """The lines of the bodies of all loops of a compiled program."""
  bodies, inside = re.findall(r' body=%?([\w.-]+)', text), False
  assert bodies
  for line in text.split('\n'):
    if line.endswith('{') and not line.startswith(' '):
      inside = line.split()[0].removeprefix('%') in bodies
    elif inside:
      yield line


def test_the_chunk_by_size():
  """Float32 logits of at most 1 GiB are whole; chunks have at most 256 MiB."""
  B, V = 8, 32_768  # a MiB for a token of each row
  assert tokens_at_once(BY_SIZE, B, 1024, V) == 1024
  assert 4 * B * 1024 * V == LIMIT
  chunk = tokens_at_once(BY_SIZE, B, 1025, V)
  assert chunk == 205  # five, about equal
  assert 4 * B * chunk * V <= CHUNK
  assert tokens_at_once(BY_SIZE, 4096, 1024, V) == 1  # 512 MiB a token
  assert tokens_at_once(0, 4096, 1024, V) == 1024
  assert tokens_at_once(100, B, 1024, V) == 100
  assert tokens_at_once(100, B, 64, V) == 64


def test_the_size_is_a_devices():
  config = make_config(**{'sharding.mesh.data': 2, 'sharding.mesh.tensor': 4})
  config.sharding.rules = 'tensor'
  with set_up(config).on_mesh():
    assert tokens_at_once(BY_SIZE, 64, 1024, 32_768) == 1024
    assert tokens_at_once(BY_SIZE, 64, 1025, 32_768) == 205
