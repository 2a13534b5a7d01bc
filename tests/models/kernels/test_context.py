"""Attention across devices that share rows equals attention to whole rows."""

import collections
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from models.kernels import ring, sharded
from tests.models.kernels.test_flash import SEED, B, N, packed, plain
from train.parallel import sharding
from train.parallel.mesh import make_mesh

H = 8
MESHES = {
  'four': {'fsdp': 2, 'sequence': 4},
  'two': {'data': 2, 'sequence': 2, 'tensor': 2},
}


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
  monkeypatch.setattr(sharded, 'INTERPRET', True)


def given(
  K=2, T=32, S=32, causal=False, prefix=False, bias=False, dtype='float32', **_
):  # fmt: skip
  """q, k, v, bias and the rules."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  rules = packed(rng, T, S, causal, prefix)
  arrays = normal(B, T, N, H), normal(B, S, K, H), normal(B, S, K, H)
  bias = normal(N, T + S - 1).astype('float32') if bias else None
  return (*arrays, bias), rules


def whole(arrays, rules, window=0, rate=0.0, **_):
  """`attend` on whole arrays."""
  return plain(*arrays, rules, window, rate)


def shared(
  kernel, arrays, rules, window=0, rate=0.0, fixed=False, banded=False, **_
):
  """`attend_in_blocks` by the rules and on the mesh that are active."""
  *arrays, bias = arrays
  return sharded.attend_in_blocks(
    kernel, *arrays, rules, bias, jnp.bool_(True) if banded else None, window,
    jnp.int32(SEED), rate, fixed,
  )  # fmt: skip


def both(function, arrays, rules, learned):
  """The outputs of queries that see a key, and gradients, compiled."""

  def probed(arrays):
    seen = rules.mask().any(-1)[..., None, None]
    out = jnp.where(seen, function(arrays, rules), 0)
    return jnp.sum(jnp.sin(out * (1 + jnp.arange(H)))), out

  @jax.jit
  def run(arrays):
    gradients, out = jax.grad(probed, has_aux=True)(arrays)
    return out, gradients if learned else gradients[:3]

  return run, run(arrays)


def on_mesh(name, context):
  """The contexts of a mesh and its rules."""
  sizes = dict.fromkeys(sharding.AXES, 1) | MESHES[name]
  rules = sharding.make_rules('auto', sizes)
  if context == 'ring':
    rules = sharding.ring(rules)
  mesh = make_mesh(sizes, 'auto')
  return jax.set_mesh(mesh), nn.logical_axis_rules(rules)


def run_on_mesh(case, context, kernel, fields):
  arrays, rules = given(**fields)
  mesh, logical = on_mesh(case, context)
  function = functools.partial(shared, kernel, **fields)
  with mesh, logical:
    return both(function, arrays, rules, learned(fields))


def learned(fields):
  return fields.get('bias', False) and not fields.get('fixed', False)


# Every feature beside every other that can meet it, in few programs.
CASES = {
  'both directions': ('four', {'bias': True, 'rate': 0.2}),  # T5, BERT
  'causal': (  # with ALiBi
    'two',
    {'causal': True, 'K': 2, 'rate': 0.1, 'bias': True, 'fixed': True},
  ),
  'prefix': ('two', {'causal': True, 'prefix': True, 'bias': True}),
  'window': (
    'two',
    {'causal': True, 'window': 9, 'K': 4, 'banded': True, 'bias': True},
  ),
  'odd': ('four', {'causal': True, 'K': 1, 'T': 20, 'S': 20}),  # no halves
  'cross': ('four', {'T': 16, 'S': 40, 'rate': 0.2}),
}


# Triton's kernel has no bias.
OF_TRITON = {
  'no bias': ('two', {'causal': True, 'K': 2, 'rate': 0.1, 'window': 9}),
}


@functools.cache
def truth(case):
  fields = (CASES | OF_TRITON)[case][1]
  arrays, rules = given(**fields)
  function = functools.partial(whole, **fields)
  return both(function, arrays, rules, learned(fields))[1]


@pytest.mark.parametrize(
  ('kernel', 'case'),
  [
    *((kernel, case) for kernel in ('xla', 'flash') for case in CASES),
    ('triton', 'no bias'),
  ],
)
@pytest.mark.parametrize('context', ['gather', 'ring'])
def test_equals_whole_rows(kernel, case, context):
  """Values and all gradients; sums over parts of the keys round otherwise."""
  mesh, fields = (CASES | OF_TRITON)[case]
  _, ours = run_on_mesh(mesh, context, kernel, fields)
  for a, b in zip(*map(jax.tree.leaves, (ours, truth(case))), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-5 * np.abs(b).max())


@pytest.mark.parametrize('context', ['gather', 'ring'])
def test_in_bfloat16(context):
  """Sums over parts of the keys are float32: as near as whole rows are."""
  fields = {'causal': True, 'K': 2, 'bias': True, 'rate': 0.1}
  arrays, rules = given(**fields)
  function = functools.partial(whole, **fields)
  exact = both(function, arrays, rules, True)[1]
  half, _ = given(**fields, dtype='bfloat16')
  near = both(function, half, rules, True)[1]
  ours = run_on_mesh('four', context, 'xla', fields | {'dtype': 'bfloat16'})[1]
  for a, b, c in zip(*map(jax.tree.leaves, (ours, near, exact)), strict=True):
    assert a.dtype == b.dtype
    errors = [np.abs(np.asarray(x, 'float32') - c).mean() for x in (a, b)]
    assert errors[0] <= 1.05 * errors[1]  # measured: 0.92 to 1.014


KINDS = 'all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter'
SENT = re.compile(rf'= \(?(\w+)\[([\d,]*)\].* ({KINDS})(?:-start)?\(')


@pytest.mark.parametrize('context', ['gather', 'ring'])
def test_what_is_sent(context):
  """Gathered are keys and values alone; around a ring nothing is gathered."""
  fields = {'causal': True, 'T': 64, 'S': 64, 'bias': True}
  arrays, rules = given(**fields)
  mesh, logical = on_mesh('four', context)
  with mesh, logical:
    function = functools.partial(shared, 'xla', **fields)
    run, _ = both(function, arrays, rules, True)
    text = run.lower(arrays).compile().as_text()
  found = collections.Counter()
  for kind, shape, code in SENT.findall(text):
    found[code] += 1
    shape = [int(x) for x in shape.split(',') if x]
    if code == 'all-gather' and kind == 'f32':
      # A row of this device, all keys; never weights [N,T,S], or queries.
      assert shape[-3:] == [64, 2, H]
  if context == 'gather':
    assert found['all-gather'] == 3  # keys, values, segments
    assert found['reduce-scatter'] == 2
    assert not found['collective-permute']
  else:
    assert found['collective-permute'] > 0
    assert not found['all-gather']
    assert not found['reduce-scatter']


def test_equal_work():
  """Device i has parts i and 2n - 1 - i, and gives back what it was given."""
  mesh, logical = on_mesh('four', 'ring')
  spec = PartitionSpec(None, 'sequence')

  @functools.partial(
    jax.shard_map, in_specs=spec, out_specs=(spec, spec), check_vma=False
  )
  def dealt(x):
    parts = ring.deal(x, 'sequence', 4)
    return jnp.concatenate(parts, axis=1), ring.collect(parts, 'sequence', 4)

  with mesh, logical:
    parts, back = dealt(jnp.arange(16)[None])
  np.testing.assert_array_equal(back[0], jnp.arange(16))
  found = np.sort(parts.reshape(4, 4), axis=1) // 2
  np.testing.assert_array_equal(found, [[i, i, 7 - i, 7 - i] for i in range(4)])
