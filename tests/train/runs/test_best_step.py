"""--step=best and --init_from=RUN:best: the best step by checkpoint.best."""

import json
import shutil

import pytest

from configs import palm
from tests.helpers.warm_starts import BYTES, PALM, config_of
from train.runs import opening, warm_start
from train.runs.checkpoint import CheckpointError, Checkpoints, parse_step

pytestmark = pytest.mark.slow


@pytest.fixture
def two(language_model, tmp_path):
  """A run with checkpoints of steps 3 and 4; the evaluation of 3 is best."""
  folder = tmp_path / 'two'
  shutil.copytree(language_model[0], folder)
  shutil.copytree(folder / 'checkpoints' / '3', folder / 'checkpoints' / '4')
  write_best(folder, 3)
  return folder


def write_best(folder, step):
  found = {'step': step, 'metric': 'eval/loss', 'value': 1.0}
  (folder / 'best.json').write_text(json.dumps(found))


def test_the_best_step_is_opened(two):
  assert opening.open_run(str(two)).step == 4
  assert opening.open_run(str(two), 'best').step == 3
  write_best(two, 7)
  with pytest.raises(CheckpointError, match='No checkpoint of step 7 in'):
    opening.open_run(str(two), 'best')


def test_a_run_begins_with_the_best_step(two, source, language_model, tmp_path):
  config = config_of(palm, 'tiny', BYTES, PALM, {'data.source': source})
  assert warm_start.parse(f'{two}:best') == (str(two), 'best')
  shape = opening.open_run(str(two)).setup.state
  for init_from, step in ((f'{two}:best', 3), (f'{two}:4', 4), (str(two), 4)):
    new = str(tmp_path / 'new')
    origin = warm_start.find(new, config, shape, init_from)
    assert origin.step == step
  odd = tmp_path / 'run:best'
  odd.mkdir()
  assert warm_start.parse(str(odd)) == (str(odd), None)


def test_a_run_without_a_best_step(language_model):
  folder = language_model[0]
  with pytest.raises(ValueError, match=r'best\.json is missing.*no step'):
    Checkpoints(str(folder), read_only=True).find('best')


def test_the_flag():
  found = [parse_step(text) for text in ('', '0', '12', 'best')]
  assert found == [None, 0, 12, 'best']
  for text in ('last', '-1', '1.0', 'Best'):
    with pytest.raises(ValueError, match=f'--step={text} must be a number'):
      parse_step(text)
