"""Where a step's time goes: benchmarks/step_profile.py."""

import types

import jax
import jax.numpy as jnp
import pytest

from benchmarks import step_profile

MODEL = 'jit(train_step)/transpose(jvp(Decoder))/decoder/layer_3'


@pytest.mark.parametrize(
  ('op_name', 'product', 'group'),
  [
    (f'{MODEL}/mlp/input/dot_general', 'matrix', 'products: layers'),
    (f'{MODEL}/attention/query/dot_general', 'matrix', 'products: layers'),
    (f'{MODEL}/attention/BTKH,BSKH->BKTS/dot_general', 'batched', 'attention'),
    (f'{MODEL}/attention/sub', '', 'attention: softmax'),
    (f'{MODEL}/attention_norm/mul', '', 'elementwise'),
    ('jit(train_step)/jvp(Decoder)/vocabulary/dot', 'matrix', 'vocabulary'),
    ('jit(train_step)/jvp()/reduce_sum', '', 'loss'),
    ('jit(train_step)/jvp(jit(take_along_axis))/gather', '', 'loss'),
    (f'{MODEL}/mlp/Dropout_0/threefry2x32', '', 'dropout'),
    ('jit(train_step)/add', '', 'optimizer'),
    ('', 'batched', 'attention'),
    ('', '', 'rest'),
  ],
)
def test_groups(op_name, product, group):
  found = step_profile.group_of('x.1', 'fusion', op_name, product)
  assert found in step_profile.GROUPS
  assert found.endswith(group) or found.startswith('products: ' + group)


def test_time_within_another_operation_counts_once():
  def event(name, start, duration, module='jit_train_step'):
    return types.SimpleNamespace(
      start_ns=start,
      duration_ns=duration,
      stats=[('hlo_op', name), ('hlo_module', module)],
    )

  # c lies within b within a; d begins where a ends; e is another program's.
  threads = [
    [event('c', 30, 10), event('b', 20, 40), event('a', 0, 100)],
    [event('d', 100, 5), event('a', 0, 100), event('e', 0, 9, 'jit_other')],
  ]
  lines = [types.SimpleNamespace(events=events) for events in threads]
  plane = types.SimpleNamespace(lines=lines)
  seconds = step_profile.operation_seconds(
    types.SimpleNamespace(planes=[plane])
  )
  assert {name: round(1e9 * x) for name, x in seconds.items()} == {
    'a': 60 + 100,
    'b': 30,
    'c': 10,
    'd': 5,
  }


def test_profile_of_a_product():
  def train_step(x):
    return jnp.tanh(x @ x.T)

  x = jnp.ones((512, 512))
  compiled = jax.jit(train_step).lower(x).compile()
  found = step_profile.profile(
    lambda: jax.block_until_ready(compiled(x)), compiled
  )
  assert found['groups']['products: layers'] > 0
  assert sum(found['groups'].values()) == pytest.approx(found['operations'])
  assert found['top'][0][0] <= found['operations']
