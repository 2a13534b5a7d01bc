"""Which checkpoints are kept, which are read, and what changes none."""

import shutil
import types

import jax
import numpy as np
import pytest

from tests.helpers import runs
from train.runs import storage
from train.runs.checkpoint import CheckpointError, Checkpoints

# TensorStore's threads print after a checkpoint that could not be read.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)

RUN = {'config': {}, 'data': {}}


def saved(folder, *steps):
  with Checkpoints(str(folder)) as checkpoints:
    for step in steps:
      state = jax.tree.map(jax.device_put, runs.small_state(step, step))
      checkpoints.save(state, step, RUN)
  return folder


@pytest.fixture(scope='module')
def three(tmp_path_factory):
  """A workdir with the checkpoints of steps 2, 4 and 10."""
  return saved(tmp_path_factory.mktemp('three'), 2, 4, 10)


@pytest.fixture
def copied(three, tmp_path):
  shutil.copytree(three, tmp_path, dirs_exist_ok=True)
  return tmp_path


@pytest.mark.parametrize(
  ('keep', 'keep_every', 'best', 'kept'),
  [
    (1, 0, (), {12}),
    (2, 0, (), {10, 12}),
    (3, 0, (4,), {4, 8, 10, 12}),
    (1, 0, (4, 8, 2), {2, 4, 8, 12}),
    (1, 4, (), {4, 8, 12}),
    (2, 6, (2,), {2, 6, 10, 12}),
    (9, 0, (), {2, 4, 6, 8, 10, 12}),
    (None, 0, (), {2, 4, 6, 8, 10, 12}),
  ],
)
def test_which_are_kept(tmp_path, keep, keep_every, best, kept):
  """The newest, those at multiples and the best are kept, in any order."""
  checkpoints = Checkpoints(str(tmp_path), keep, keep_every)
  checkpoints.best = best
  steps = [10, 12, 2, 4, 6, 8]  # as their names are sorted
  there = [types.SimpleNamespace(step=step) for step in steps]
  stay = checkpoints.should_preserve(there, context=None)
  assert {step for step, x in zip(steps, stay, strict=True) if x} == kept


@pytest.mark.parametrize(
  ('before', 'kept'), [(12, {12}), (9, {8, 12}), (8, {8, 12}), (1, {2, 12})]
)
def test_one_that_is_old_enough_is_kept(tmp_path, before, kept):
  """The newest at or before a step; if there is none, the oldest."""
  checkpoints = Checkpoints(str(tmp_path), 1)
  checkpoints.needs = lambda newest: before - 12 + newest
  steps = [10, 12, 2, 4, 6, 8]
  there = [types.SimpleNamespace(step=step) for step in steps]
  keep = checkpoints.should_preserve(there, context=None)
  assert {s for s, k in zip(steps, keep, strict=True) if k} == kept


def test_later_ones_are_removed(copied):
  """Their steps can be saved again."""
  with Checkpoints(str(copied)) as checkpoints:
    checkpoints.remove_after(2)
    assert checkpoints.steps() == runs.checkpoints(copied) == [2]
    state = jax.tree.map(jax.device_put, runs.small_state(4, 99))
    checkpoints.save(state, 4, RUN)
  found = Checkpoints(str(copied), read_only=True).restore_arrays(4)
  np.testing.assert_array_equal(found['cursor'], state.cursor)


def test_the_newest_has_the_highest_step(three):
  checkpoints = Checkpoints(str(three), read_only=True)
  assert checkpoints.steps() == [2, 4, 10]
  assert (checkpoints.find(), checkpoints.find(4)) == (10, 4)


def test_readers_of_a_run_change_nothing(copied):
  """A save may be under way in another process."""
  state = jax.tree.map(jax.device_put, runs.small_state(11))
  unfinished = copied / 'checkpoints' / '9.orbax-checkpoint-tmp'
  unfinished.mkdir()
  reading = Checkpoints(str(copied), keep=1, read_only=True)
  reading.save(state, 11, RUN)
  reading.wait()
  assert unfinished.exists()
  assert runs.checkpoints(copied) == [2, 4, 10]
  with Checkpoints(str(copied), keep=1) as training:
    training.save(state, 11, RUN)
  assert runs.checkpoints(copied) == [11]
  assert not unfinished.exists()


def test_some_parts_of_a_state(three):
  checkpoints = Checkpoints(str(three), read_only=True)
  state = runs.small_state(4, 4)
  arrays = checkpoints.restore_arrays(4, 'params', 'cursor')
  assert arrays.keys() == {'params', 'cursor'}
  np.testing.assert_array_equal(arrays['cursor'], state.cursor)
  kernel = arrays['params']['a']['kernel']
  np.testing.assert_array_equal(kernel, state.params['a']['kernel'])
  assert kernel.dtype == np.float32
  whole = checkpoints.restore_arrays(4)
  assert whole.keys() == {'step', 'params', 'opt_state', 'cursor'}


def flip(folder, step, part='state'):
  """Flips one bit of the largest file."""
  files = (folder / f'checkpoints/{step}/{part}').rglob('*')
  file = max((x for x in files if x.is_file()), key=lambda x: x.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)


def abstract():
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    runs.small_state(0),
  )


@pytest.mark.parametrize(('step', 'part'), [(4, 'state'), (2, 'run')])
def test_nothing_is_read_unchecked(copied, step, part):
  flip(copied, step, part)
  for read in (
    lambda x: x.find(step),
    lambda x: x.run(step),
    lambda x: x.restore(abstract(), step),
    lambda x: x.restore_params(abstract().params, step),
    lambda x: x.restore_some({'cursor': abstract().cursor}, step),
    lambda x: x.restore_arrays(step, 'cursor'),
    lambda x: x.shapes(step),
  ):
    with pytest.raises(CheckpointError, match='does not have the checksum'):
      read(Checkpoints(str(copied), read_only=True))


def test_all_damaged_ones_are_put_aside(copied):
  """A name that is taken gets a number."""
  other = copied / 'damaged_checkpoints' / '10'
  other.mkdir(parents=True)
  for step in (4, 10):
    flip(copied, step)
  with Checkpoints(str(copied)) as checkpoints:
    state, _ = checkpoints.restore_newest(abstract())
    assert int(state.step) == 2
    assert checkpoints.steps() == [2]
  aside = {x.name for x in other.parent.iterdir()}
  assert aside == {'4', '10', '10_2'}
  assert not list(other.iterdir())


def test_parameters_must_be_those_of_the_model():
  a, b = np.zeros((2, 3)), np.zeros(4)
  storage.check_shapes({'a': a, 'b': {'c': b}}, {'b': {'c': b}, 'a': a})
  for there, here, message in (
    ({'a': a, 'b': b}, {'a': a}, r'b is \(4,\) in the .* and missing in'),
    ({'a': a}, {'a': a, 'b': b}, r'b is missing in the .* and \(4,\) in'),
    ({'a': a}, {'a': a.T}, r'a is \(2, 3\) in the .* and \(3, 2\) in'),
  ):
    with pytest.raises(ValueError, match=message):
      storage.check_shapes(there, here)


def test_the_first_error_is_raised(tmp_path, monkeypatch, capsys):
  def full(self):
    raise CheckpointError('no space left')

  monkeypatch.setattr(Checkpoints, 'close', full)
  with pytest.raises(CheckpointError, match='no space left'):
    with Checkpoints(str(tmp_path)):
      pass
  with pytest.raises(KeyError, match='first'):
    with Checkpoints(str(tmp_path)):
      raise KeyError('first')
  assert 'no space left' in capsys.readouterr().err
