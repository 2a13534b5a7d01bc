"""What a checkpoint's digests tell apart, and what they do not."""

import json

import jax
import numpy as np

from tests.helpers import runs
from train.fingerprint import digest, fingerprint
from train.runs.checkpoint import Checkpoints


def test_a_digest_is_of_names_types_shapes_and_bytes():
  tree = {'a': {'b': np.arange(6.0).reshape(2, 3)}, 'c': np.int32(4)}
  (array,) = tree['a'].values()
  bit = array.copy()
  bit.view(np.uint64)[1, 2] ^= 1
  others = (
    {'a': {'b': bit}, 'c': np.int32(4)},
    {'a': {'b': array.reshape(3, 2)}, 'c': np.int32(4)},
    {'a': {'b': array.view(np.int64)}, 'c': np.int32(4)},
    {'a': {'d': array}, 'c': np.int32(4)},
    {'a': {'b': np.asfortranarray(bit)}, 'c': np.int32(5)},
    {'a': {'b': array}},
  )
  digests = [digest(x) for x in (tree, *others)]
  assert len(set(digests)) == len(digests)
  # Neither the layout in memory nor the order of the parts is hashed.
  same = {'c': np.int32(4), 'a': {'b': np.asfortranarray(array)}}
  assert digest(same) == digests[0]
  assert digest(jax.tree.map(jax.numpy.asarray, {'x': np.int32(3)})) == digest(
    {'x': np.int32(3)}
  )


def test_each_part_of_a_checkpoint_has_its_own(tmp_path):
  """A change of one changes one of the digests."""
  state = runs.small_state(0)
  kernel = state.params['a']['kernel'] + 1
  data = {'b': 1, 'a': [2]}
  changes = {
    'step': ({'step': np.int32(1)}, data),
    'params': ({'params': {'a': {'kernel': kernel}}}, data),
    'optimizer': ({'opt_state': ({'row': kernel[..., 0]}, ())}, data),
    'cursor': ({'cursor': state.cursor + 1}, data),
    'data': ({}, {'b': 1, 'a': [3]}),
    None: ({}, {'a': [2], 'b': 1}),
  }
  with Checkpoints(str(tmp_path)) as checkpoints:
    run = {'config': {}, 'data': data}
    checkpoints.save(jax.tree.map(jax.device_put, state), 0, run)
    for step, (change, data) in enumerate(changes.values(), 1):
      # Nothing about the config is reported.
      run = {'config': {'of': step}, 'data': data}
      now = jax.tree.map(jax.device_put, state.replace(**change))
      checkpoints.save(now, step, run)
  first = fingerprint(str(tmp_path), 0)
  assert json.loads(json.dumps(first)) == first
  for step, part in enumerate(changes, 1):
    found = fingerprint(str(tmp_path), step)
    assert {x for x in first if first[x] != found[x]} == {part} - {None}
