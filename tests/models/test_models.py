"""One model run in many ways: scanned, rematerialised, packed, cached."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoding
from models.build import build
from models.config import TransformerConfig
from models.sampling import Sampling
from tests.helpers import t5_reference as reference
from train.learning import criteria

SMALL = {
  'vocab_size': 32,
  'embed_dim': 16,
  'mlp_dim': 24,
  'heads': 4,
  'kv_heads': 2,
  'head_dim': 6,
  'decoder_layers': 2,
}


def small_config(**changes) -> TransformerConfig:
  return reference.tiny_config('1.1', **SMALL | changes)


@pytest.fixture(scope='module')
def params():
  return reference.random_params(build(small_config()))


def make_batch(lengths, S=24, T=16, seed=1) -> dict[str, np.ndarray]:
  """One row of packed examples with the given (source, target) lengths."""
  rng = np.random.default_rng(seed)
  batch = {
    name: np.zeros((1, length), 'int32')
    for names, length in (
      (('encoder_inputs', 'encoder_segments'), S),
      (('inputs', 'targets', 'segments'), T),
    )
    for name in names
  }
  s = t = 0
  for number, (source, target) in enumerate(lengths, 1):
    batch['encoder_inputs'][0, s : s + source] = rng.integers(2, 32, source)
    batch['encoder_segments'][0, s : s + source] = number
    tokens = rng.integers(2, 32, target)
    batch['targets'][0, t : t + target] = tokens
    batch['inputs'][0, t + 1 : t + target] = tokens[:-1]
    batch['segments'][0, t : t + target] = number
    s, t = s + source, t + target
  batch['weights'] = (batch['segments'] > 0).astype('float32')
  return batch


def stack_rows(*batches):
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


EMPTY = {k: np.zeros_like(v) for k, v in make_batch([]).items()}
PACKED = stack_rows(make_batch([(7, 5), (9, 3), (5, 6)]), EMPTY, EMPTY)
BATCH = stack_rows(
  PACKED, make_batch([(24, 16)], seed=2), make_batch([(3, 9)], seed=3)
)
BATCH = {name: np.delete(x, [1, 2], axis=0) for name, x in BATCH.items()}


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, batch, rng=None):
  """The loss summed over the batch, its gradient, and the logits."""
  model = build(config)

  def loss(params):
    return criteria.lm(model, params, batch, rng)['loss']

  logits = model.apply(
    {'params': params},
    **{name: batch[name] for name in model.INPUTS},
    rngs=None if rng is None else {'dropout': rng},
  )
  return *jax.value_and_grad(loss)(params), logits


def assert_close(ours, expected, tolerance=1e-5):
  """Each array's difference is small compared with its largest number."""
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(ours),
    jax.tree.leaves(expected),
    strict=True,
  ):
    a, b = np.asarray(a), np.asarray(b)
    scale = np.abs(b).max()
    assert scale > 0, path
    assert np.abs(a - b).max() <= tolerance * scale, path


def unstacked(params):
  """Scanned weights under the names that they have without a scan."""
  params = dict(params)
  for side in ('encoder', 'decoder'):
    stack = dict(params[side])
    layers = stack.pop('layers')
    for i in range(len(jax.tree.leaves(layers)[0])):
      stack[f'layer_{i}'] = jax.tree.map(lambda x, i=i: x[i], layers)
    params[side] = stack
  return params


@pytest.fixture(scope='module')
def scanned(params):
  return run(small_config(), params, BATCH)


def test_scan_equals_loop(params, scanned):
  config = small_config(scan=False)
  loss, grads, logits = run(config, unstacked(params), BATCH)
  assert loss == pytest.approx(float(scanned[0]), rel=1e-6)
  assert_close(grads, unstacked(scanned[1]))
  assert_close(logits, scanned[2])


def test_layers_in_a_turn_change_nothing(params, scanned):
  loss, grads, logits = run(small_config(scan_unroll=2), params, BATCH)
  assert loss == pytest.approx(float(scanned[0]), rel=1e-6)
  assert_close(grads, scanned[1])
  assert_close(logits, scanned[2])


@pytest.fixture(scope='module')
def with_dropout(params):
  config = small_config(dropout=0.3)
  return run(config, params, BATCH, jax.random.key(5))


@pytest.mark.parametrize(
  'remat', ['full', 'mlp', 'dots', 'attention', 'offload']
)
def test_remat_changes_nothing(params, with_dropout, remat):
  config = small_config(dropout=0.3, remat=remat)
  loss, grads, _ = run(config, params, BATCH, jax.random.key(5))
  assert loss == pytest.approx(float(with_dropout[0]), rel=1e-6)
  assert_close(grads, with_dropout[1])

  def saved(config):
    model = build(config)
    return jax.eval_shape(
      lambda p: jax.vjp(lambda p: criteria.lm(model, p, BATCH)['loss'], p)[1],
      params,
    )

  # And it keeps less for the backward pass.
  kept, all_kept = (
    sum(x.size for x in jax.tree.leaves(saved(c)))
    for c in (config, small_config(dropout=0.3))
  )
  assert kept < (0.9 if remat == 'attention' else 0.8) * all_kept


def test_what_remat_keeps(params):
  """full: nothing of a layer; mlp, dots: some, all products; none: all."""

  def kept(remat):
    model = build(small_config(remat=remat))

    def residuals(p):
      return jax.vjp(lambda p: criteria.lm(model, p, BATCH)['loss'], p)[1]

    return sum(
      x.size for x in jax.tree.leaves(jax.eval_shape(residuals, params))
    )

  full, mlp, dots, whole = map(kept, ('full', 'mlp', 'dots', 'none'))
  assert 1.1 * full < mlp < dots < 0.9 * whole


def test_what_is_offloaded_goes_to_the_hosts_memory(params):
  """Lowered for a GPU: the products, which `dots` leaves where they are."""

  def text(remat):
    model = build(small_config(remat=remat))

    def loss(p):
      return criteria.lm(model, p, BATCH)['loss']

    traced = jax.jit(jax.grad(loss)).trace(params)
    return traced.lower(lowering_platforms=('cuda',)).as_text()

  assert 'pinned_host' not in text('dots')
  assert 'pinned_host' in text('offload')


def test_packed_examples_do_not_see_each_other(params):
  config = small_config()
  alone = []
  for number in (1, 2, 3):
    row = {name: x.copy() for name, x in EMPTY.items()}
    for names, segments in (
      (('encoder_inputs',), 'encoder_segments'),
      (('inputs', 'targets', 'weights'), 'segments'),
    ):
      own = PACKED[segments] == number
      row[segments][0, : own.sum()] = 1
      for name in names:
        row[name][0, : own.sum()] = PACKED[name][own]
    alone.append(row)
  separate = stack_rows(*alone)

  loss, grads, logits = run(config, params, PACKED)
  expected, expected_grads, expected_logits = run(config, params, separate)
  assert loss == pytest.approx(float(expected), rel=1e-6)
  assert_close(grads, expected_grads)
  own = np.asarray(expected_logits)[separate['segments'] > 0]
  assert_close(np.asarray(logits)[PACKED['segments'] > 0], own)


def test_no_position_sees_later_ones(params):
  """Other tokens from position 8 on do not change the logits before it."""
  config = small_config()
  other = dict(BATCH, inputs=BATCH['inputs'].copy())
  other['inputs'][1, 8:] = 33 - other['inputs'][1, 8:]
  a, b = (np.asarray(run(config, params, x)[2]) for x in (BATCH, other))
  np.testing.assert_array_equal(a[1, :8], b[1, :8])
  assert np.abs(a[1, 8:] - b[1, 8:]).max() > 0.01


@pytest.mark.parametrize('scan', [True, False])
def test_decoding_equals_teacher_forcing(params, scan):
  config = small_config(scan=scan)
  params = params if scan else unstacked(params)
  model = build(config)
  batch = stack_rows(*(make_batch([(n, 16)], seed=n) for n in (24, 9, 2)))
  source = batch['encoder_inputs'], batch['encoder_segments']

  greedy = jax.jit(functools.partial(decoding.decode, model=model, length=16))

  def decode(eos):
    return np.asarray(greedy(params, *source, eos=eos).tokens)

  tokens = decode(eos=-1)
  forced = dict(batch, inputs=np.pad(tokens, [(0, 0), (1, 0)])[:, :-1])
  logits = np.asarray(run(config, params, forced)[2])
  np.testing.assert_array_equal(logits.argmax(-1), tokens)
  assert len({tuple(row) for row in tokens}) == 3

  # Only 0s follow a token that ends a row, and nothing before it changes.
  eos = int(tokens[0, 4])
  ended = decode(eos)
  for row, whole in zip(ended, tokens, strict=True):
    places = np.flatnonzero(whole == eos)
    end = places[0] + 1 if len(places) else 16
    np.testing.assert_array_equal(row[:end], whole[:end])
    assert not row[end:].any()


def test_decoding_never_writes_ids_beyond_the_vocabulary(params):
  """The model's table may have more rows than the tokenizer has tokens."""
  batch = stack_rows(*(make_batch([(n, 16)], seed=n) for n in (24, 9, 2)))
  source = batch['encoder_inputs'], batch['encoder_segments']
  rngs = jax.random.split(jax.random.key(0), 3)
  greedy, drawn = (
    jax.jit(
      functools.partial(
        decoding.decode,
        model=build(small_config()),
        length=8,
        eos=-1,
        vocabulary=5,
        how=Sampling(temperature),
      )
    )
    for temperature in (0.0, 1.0)
  )
  tokens = [
    np.asarray(decode(params, *source, rngs=rngs).tokens)
    for decode in (greedy, drawn)
  ]
  assert np.max(tokens) < 5
  assert (tokens[0] != tokens[1]).any()
  again = drawn(params, *source, rngs=rngs).tokens
  np.testing.assert_array_equal(again, tokens[1])


def test_cached_logits_equal_the_whole_sequences(params):
  config = small_config()
  model = build(config)
  batch = BATCH

  @jax.jit
  def decode(params):
    encoded = model.apply(
      {'params': params},
      batch['encoder_inputs'],
      batch['encoder_segments'],
      method='encode',
    )

    def step(cache, index, encoded=None):
      return model.apply(
        {'params': params},
        jnp.asarray(batch['inputs'])[:, index][:, None],
        cache,
        index,
        batch['encoder_segments'],
        encoded,
        method='decode_step',
      )[::-1]

    cache, first = step(model.start_cache(3, 16), jnp.int32(0), encoded)
    _, rest = jax.lax.scan(step, cache, jnp.arange(1, 16))
    return jnp.concatenate([first[None], rest])[:, :, 0].swapaxes(0, 1)

  # Compare the row with a single example: packed rows are not decoded.
  expected = run(config, params, batch)[2]
  assert_close(decode(params)[1], expected[1])


def test_dropout_acts_only_with_an_rng(params, scanned):
  config = small_config(dropout=0.3)
  a, b, again = (
    np.asarray(run(config, params, BATCH, jax.random.key(n))[2])
    for n in (0, 1, 0)
  )
  plain = np.asarray(scanned[2])
  np.testing.assert_array_equal(a, again)
  for other in (b, plain):
    assert np.abs(a - other).max() > 0.1 * np.abs(plain).max()

  model = build(config)
  batch = {name: BATCH[name] for name in model.INPUTS}
  without_rng = jax.jit(lambda p: model.apply({'params': p}, **batch))(params)
  assert_close(without_rng, plain, 1e-6)


def test_bfloat16_is_near_float32(params, scanned):
  config = small_config(dtype='bfloat16')
  loss, grads, logits = run(config, params, BATCH)
  assert logits.dtype == 'float32'
  assert_close(logits, scanned[2], 0.05)
  assert loss.dtype == 'float32'
  assert loss == pytest.approx(float(scanned[0]), rel=0.02)
  assert all(g.dtype == 'float32' for g in jax.tree.leaves(grads))
  total, error = (
    sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(tree)) ** 0.5
    for tree in (scanned[1], jax.tree.map(jnp.subtract, grads, scanned[1]))
  )
  assert error < 0.05 * total
  assert build(config).start_cache(1, 2)['self']['key'].dtype == 'bfloat16'
