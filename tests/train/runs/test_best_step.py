"""--step=best and --init_from=RUN:best: the best step by checkpoint.best."""

import json
import random
import shutil
import types

import pytest

from configs import palm
from tests.helpers.warm_starts import BYTES, PALM, config_of
from train.learning.criteria import Criterion, lm
from train.learning.tokens import lm_means, lm_weights
from train.runs import opening, warm_start
from train.runs.best import Best
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


def test_what_a_rewind_forgets(tmp_path):
  """The best step's checkpoint may be gone: the next evaluation is best."""
  best = Best('loss', Criterion(lm, lm_weights, lm_means), False)
  best.forget(str(tmp_path))
  best.add(3, {'loss': 1.0})
  best.write(str(tmp_path))
  best.forget(str(tmp_path))
  assert not (tmp_path / 'best.json').exists()
  assert best.steps == set()
  assert best.add(2, {'loss': 4.0})


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


def test_each_task_has_a_best_step(two):
  found = json.loads((two / 'best.json').read_text())
  own = {'a/x': {'step': 4, 'value': 50.0}, 'b': {'step': 3, 'value': 1.0}}
  (two / 'best.json').write_text(json.dumps(found | {'tasks': own}))
  for name, step in (('best', 3), ('best:a/x', 4), ('best:b', 3)):
    assert parse_step(name) == name
    assert Checkpoints(str(two), read_only=True).find(name) == step
    assert warm_start.parse(f'{two}:{name}') == (str(two), name)
  with pytest.raises(ValueError, match="'bb' is unknown. Did you mean 'b'"):
    Checkpoints(str(two), read_only=True).find('best:bb')


def numbers(seed, steps=12):
  """Scores of two tasks at each step, some of them equal."""
  rng = random.Random(seed)
  for step in range(1, steps + 1):
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    yield step, {'score': (a + b) / 2, 'a/x/score': a, 'b/score': b}


@pytest.mark.parametrize('seed', range(5))
def test_a_step_is_kept_while_a_name_refers_to_it(seed, tmp_path):
  """A run that starts again at any step finds the same best steps."""

  def new(rows, steps):
    best = Best(
      'score', Criterion(lm, lm_weights, lm_means), False, scored=True
    )
    best.read(rows, steps, ('a/x', 'b'))
    return best

  there, rows, seen = [], [], []
  checkpoints = Checkpoints(str(tmp_path), keep=1)
  best = new([], [])
  for step, means in numbers(seed):
    checkpoints.best = best.steps
    saved = [types.SimpleNamespace(step=x) for x in (*there, step)]
    kept = checkpoints.should_preserve(saved, context=None)
    there = [x.step for x, keep in zip(saved, kept, strict=True) if keep]
    rows.append({'step': step} | {f'eval/{k}': x for k, x in means.items()})
    seen.append((step, means))
    best.add(step, means)
    best.write(str(tmp_path))
    found = json.loads((tmp_path / 'best.json').read_text())
    for name, place in (
      ('score', found), ('a/x/score', found['tasks']['a/x']),
      ('b/score', found['tasks']['b']),
    ):  # fmt: skip
      first = max(seen, key=lambda pair: pair[1][name])
      assert (place['step'], place['value']) == (first[0], first[1][name])
      assert place['step'] in there
    again = new(rows, there)
    assert again.steps == best.steps
    again.write(str(tmp_path))
    assert json.loads((tmp_path / 'best.json').read_text()) == found
    best = again  # it is killed and started again


def test_the_flag():
  found = [parse_step(text) for text in ('', '0', '12', 'best')]
  assert found == [None, 0, 12, 'best']
  for text in ('last', '-1', '1.0', 'Best'):
    with pytest.raises(ValueError, match=f'--step={text} must be a number'):
      parse_step(text)
