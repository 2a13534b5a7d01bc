"""Damaged files of a workdir are noticed, whatever the damage."""

import json
import shutil
import threading
import time

import jax
import numpy as np
import pytest

from configs import t5
from tests.helpers import runs
from train.fingerprint import fingerprint
from train.runs import checksums, folders, history, workdir
from train.runs.checkpoint import CheckpointError, Checkpoints

# TensorStore's threads print after a checkpoint that could not be read.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)

STATES = {step: runs.small_state(step, step) for step in (1, 2)}


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  """A workdir with the checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp('good')
  with Checkpoints(str(folder)) as checkpoints:
    for step, state in STATES.items():
      state = jax.tree.map(jax.device_put, state)
      checkpoints.save(state, step, {'config': {}, 'data': {'of': step}})
    checkpoints.wait()
  return folder


def restored_step(folder) -> int:
  """Restores a checkpoint, which must be undamaged; returns its step."""
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), STATES[2]
  )
  with Checkpoints(str(folder)) as checkpoints:
    restored, run = checkpoints.restore_newest(abstract)
  step = int(restored.step)
  jax.tree.map(np.testing.assert_array_equal, restored, STATES[step])
  assert run == {'config': {}, 'data': {'of': step}}
  assert (folder / 'damaged_checkpoints' / '2').exists() == (step == 1)
  return step


@pytest.mark.parametrize('name', ['run[lr=1e-3]', '[!a]*?', 'a{b,c} %20#'])
def test_any_name_of_a_workdir(tmp_path, name):
  """A name is not a pattern, though Orbax looks for files with patterns."""
  folder = tmp_path / name
  with Checkpoints(str(folder)) as checkpoints:
    for step, state in STATES.items():
      state = jax.tree.map(jax.device_put, state)
      checkpoints.save(state, step, {'config': {}, 'data': {'of': step}})
  for step in STATES:
    assert (folder / 'checkpoints' / str(step) / checksums.NAME).exists()
  assert restored_step(folder) == 2
  assert fingerprint(str(folder), 1)['step'] == 1
  shutil.copytree(folder, tmp_path / 'renamed')
  assert restored_step(tmp_path / 'renamed') == 2


def test_a_name_that_tensorstore_cannot_write(tmp_path):
  folder = str(tmp_path / 'a\\b')
  for refuses in (Checkpoints, folders.make):
    with pytest.raises(ValueError, match='has a backslash in it'):
      refuses(folder)
  with pytest.raises(ValueError, match='has a backslash in it'):
    workdir.check(folder, t5.get_config('tiny'))
  assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_checksums_is_not_saved(tmp_path, monkeypatch):
  def full(folder, parts):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checksums, 'write', full)
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(jax.tree.map(jax.device_put, STATES[1]), 1, {})
  with pytest.raises(CheckpointError, match='No space left.*no checkpoint yet'):
    checkpoints.wait()
  assert not checkpoints.steps()


def test_a_failure_is_reported_without_waiting(tmp_path, monkeypatch):
  """Nothing is reported while a save is under way."""
  checkpoints = Checkpoints(str(tmp_path))
  checkpoints.save(jax.tree.map(jax.device_put, STATES[1]), 1, {})
  checkpoints.wait()
  goes_on, ended = threading.Event(), threading.Event()

  def full(folder, parts):
    goes_on.wait()
    ended.set()
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checksums, 'write', full)
  checkpoints.save(jax.tree.map(jax.device_put, STATES[2]), 2, {})
  checkpoints.check_saved()
  goes_on.set()
  ended.wait()
  message = 'No space left.*are unharmed.*to resume from step 1'
  while checkpoints._manager.is_saving_in_progress():
    time.sleep(0.01)
  with pytest.raises(CheckpointError, match=message):
    checkpoints.check_saved()
  assert checkpoints.find() == 1


def test_nowhere_to_write_checksums(tmp_path, monkeypatch):
  checkpoints = Checkpoints(str(tmp_path))
  monkeypatch.setattr(type(checkpoints.folder), 'glob', lambda *_: [])
  checkpoints.save(jax.tree.map(jax.device_put, STATES[1]), 1, {})
  with pytest.raises(CheckpointError, match='to write checksums into'):
    checkpoints.wait()


@pytest.mark.parametrize('how', ['cut', 'gone', 'flipped'])
def test_damage_to_any_file(good, tmp_path, capsys, how):
  """The run reports even one bit and falls back to an older checkpoint."""
  newest = good / 'checkpoints' / '2'
  names = [f.relative_to(newest) for f in newest.rglob('*') if f.is_file()]
  assert sum(name.parent.name == 'd' for name in names) >= 2  # the arrays
  for number, name in enumerate(names):
    folder = tmp_path / str(number)
    shutil.copytree(good, folder)
    file = folder / 'checkpoints' / '2' / name
    whole = file.read_bytes()
    file.unlink()
    if how == 'cut':
      file.write_bytes(whole[: len(whole) // 2])
    elif how == 'flipped':
      at = len(whole) // 2
      flipped = bytes([whole[at] ^ 1])
      file.write_bytes(whole[:at] + flipped + whole[at + 1 :])
    step = restored_step(folder)
    reported = 'cannot be read' in capsys.readouterr().err
    assert reported == (step == 1), name
    if name.parts[0] in ('state', 'run'):
      assert step == 1, name
    elif name.name == checksums.NAME:
      # A checkpoint without checksums counts as undamaged.
      assert step == (2 if how == 'gone' else 1)


def test_programs_that_read_a_damaged_checkpoint(good, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(good, folder)
  file = max(
    (folder / 'checkpoints/2/state').rglob('d/*'),
    key=lambda file: file.stat().st_size,
  )
  data = bytearray(file.read_bytes())
  data[100] ^= 8
  file.write_bytes(data)
  message = r'2 is damaged .* does not have the checksum .* there are: 1, 2\.'
  with pytest.raises(CheckpointError, match=message):
    fingerprint(str(folder))
  assert fingerprint(str(folder), 1)['step'] == 1
  with pytest.raises(CheckpointError, match='of step 3 in .* are: 1, 2'):
    fingerprint(str(folder), 3)


@pytest.mark.parametrize('text', ['', '{"cOnfig": {}, "data": {}}', '[1]'])
def test_damage_without_checksums(good, tmp_path, capsys, text):
  """The JSON beside the state is damaged."""
  folder = tmp_path / 'run'
  shutil.copytree(good, folder)
  newest = folder / 'checkpoints' / '2'
  (newest / checksums.NAME).unlink()
  (newest / 'run' / 'metadata').write_text(text)
  assert restored_step(folder) == 1
  assert f'{newest} cannot be read' in capsys.readouterr().err


@pytest.mark.parametrize('how', ['cut', 'empty', 'key', 'list', 'binary'])
def test_damaged_config(tmp_path, how):
  config = t5.get_config('tiny')
  workdir.claim(str(tmp_path), config)
  assert workdir.read_config(str(tmp_path)).to_dict() == config.to_dict()
  file = tmp_path / workdir.NAME
  text = file.read_text()
  file.write_bytes(
    {
      'cut': text[: len(text) // 2].encode(),
      'empty': b'',
      'key': text.replace('"model"', '"mndel"').encode(),
      'list': json.dumps([json.loads(text)]).encode(),
      'binary': text.replace('model', 'mo\xe4el').encode('latin1'),
    }[how]
  )
  with pytest.raises(ValueError, match=f'{file} is damaged: it is not a'):
    workdir.read_config(str(tmp_path))


@pytest.mark.parametrize('left', [(), ('run',), ('state',)])
def test_checksums_that_lack_files(good, tmp_path, left):
  folder = tmp_path / 'run'
  shutil.copytree(good, folder)
  path = folder / 'checkpoints' / '2' / checksums.NAME
  known = json.loads(path.read_text())
  kept = {name: x for name, x in known.items() if name.split('/')[0] in left}
  assert len(kept) < len(known)
  path.write_text(json.dumps(kept))
  assert f'is not in {checksums.NAME}' in checksums.damage(str(path.parent))
  assert restored_step(folder) == 1


def test_json_nested_too_deeply(tmp_path):
  """The JSON is nested so deeply that reading it is a RecursionError."""
  for name in workdir.NAME, history.NAME, checksums.NAME:
    (tmp_path / name).write_text('[' * 10**5)
  assert checksums.damage(str(tmp_path)) == f'{checksums.NAME} is damaged'
  for read in workdir.read_config, history.read:
    with pytest.raises(ValueError, match='json is damaged: it is not'):
      read(str(tmp_path))
