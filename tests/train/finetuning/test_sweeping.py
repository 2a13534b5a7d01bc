"""Grids of fine-tuning runs, and the flags that their processes get."""

import itertools
import sys

import pytest

from configs import grids
from configs.commands import command
from configs.finetune import bert, roberta
from train import finetune
from train.finetuning import sweeping
from train.sweeping import children, record

OURS = {
  'grid': 'schedule.learning_rate=1e-3,1e-4',
  'jobs': '2',
  'seeds': '3',
  'workdir': '/tmp/runs',
}


@pytest.mark.parametrize('dash', ['-', '--'])
@pytest.mark.parametrize('spaced', [False, True])
def test_flags_that_say_what_to_run_are_left_out(dash, spaced):
  """In both spellings that absl reads, with their values."""
  shared = ['--config', 'finetune/bert.py:task=glue/rte', '--from=/tmp/run',
            '--config.data.batch', '8', '--noscratch']  # fmt: skip
  args = []
  for name, value in OURS.items():
    flag = f'{dash}{name}'
    args += [flag, value] if spaced else [f'{flag}={value}']
  args += shared
  args += ['--grid', 'data.batch=8,16']  # a flag may be given twice
  assert children.shared_flags(args, '|'.join(OURS)) == shared


def points(grid, own, seeds):
  return grids.points(grid, own, seeds, finetune.RECIPE)


GRIDS = [
  # Devlin et al. 2019, A.3; the README of the release; Liu et al. 2019, 10.
  ('bert:task=glue/rte', 18, (16, 32), (5e-5, 3e-5, 2e-5), (2.0, 3.0, 4.0)),
  (
    'bert:task=glue/rte,size=mini',
    *(20, (8, 16, 32, 64, 128), (3e-4, 1e-4, 5e-5, 3e-5), (4.0,)),
  ),
  ('roberta:task=glue/rte', 6, (16, 32), (1e-5, 2e-5, 3e-5), (10.0,)),
]


@pytest.mark.parametrize(
  ('config', 'count', 'batches', 'rates', 'epochs'), GRIDS
)
def test_the_grid_of_a_recipe(config, count, batches, rates, epochs):
  """Every point of the grid once, for each seed, in a config that has it."""
  path = command.find_config(f'finetune/{config}')
  found = points(['recipe'], finetune.published(path), 2)
  assert len({point.name for point in found}) == len(found) == 2 * count
  file, _, argument = config.partition(':')
  recipe = {'bert': bert, 'roberta': roberta}[file].get_config(argument)
  made = set()
  for point in found:
    one = grids.configured(recipe, point)
    rate = one.schedule.learning_rate
    made.add((one.data.batch, rate, one.train.epochs, one.seed))
    assert one.train.steps == 0  # epochs decide them
  assert made == {*itertools.product(batches, rates, epochs, (0, 1))}


def test_the_grid_of_a_recipe_that_has_none():
  path = command.find_config('finetune/t5.py:task=glue/rte')
  with pytest.raises(ValueError, match=r'--grid=recipe: .*t5\.py has no grid'):
    finetune.published(path)
  path = command.find_config('finetune/roberta.py:task=squad/v2.0')
  with pytest.raises(ValueError, match='one setting for squad/v2.0'):
    finetune.published(path)
  with pytest.raises(ValueError, match="must be KEY=VALUE,VALUE, or 'recipe'"):
    points(['recipes'], (), 1)
  # Other keys multiply it.
  found = points(['recipe', 'model.dropout=0,1'], [{'a.b': 1}], 1)
  assert [x.name for x in found] == [
    'b=1,dropout=0,seed=0',
    'b=1,dropout=1,seed=0',
  ]


def test_flags_whose_names_only_begin_alike_are_kept():
  args = ['--workdirs=a', '--config.data.jobs', '--gridded', 'x']
  assert children.shared_flags(args, '|'.join(OURS)) == args


def test_the_runs_of_a_folder_share_their_config(tmp_path):
  """Seeds may be added; another rate, task or start is refused by name."""
  config = bert.get_config('task=glue/rte')
  folder = str(tmp_path / 'runs')
  record.check_same(config, 'RUN', folder)
  record.check_same(config, 'RUN', folder)
  with config.unlocked():
    config.train.log_every = 7  # any start may change it
  record.check_same(config, 'RUN', folder)
  with pytest.raises(ValueError, match="from: 'RUN' there, 'OTHER' now"):
    record.check_same(config, 'OTHER', folder)
  with config.unlocked():
    config.schedule.learning_rate = 1e-3
  with pytest.raises(ValueError, match=r'learning_rate: .* there, 0.001 now'):
    record.check_same(config, 'RUN', folder)


def test_older_recipes_had_steps_beside_epochs(tmp_path):
  """None read them, so that their folders take further runs."""
  config = bert.get_config('task=glue/rte').unlock()
  folder = str(tmp_path / 'runs')
  config.train.steps = 10**6
  record.check_same(config, 'RUN', folder)
  config.train.steps = 0
  record.check_same(config, 'RUN', folder)


def test_seeds():
  """One seed is one of a grid; a grid's own seeds are the only ones."""
  assert points([], (), 1) == [grids.Point('', '', ())]
  assert [x.name for x in points([], (), 2)] == ['seed=0', 'seed=1']
  assert [x.name for x in points(['seed=3,4'], (), 1)] == ['seed=3', 'seed=4']
  with pytest.raises(ValueError, match='seed twice'):
    points(['seed=3,4'], (), 2)
  group = [x.group for x in points(['data.batch=8,16'], (), 2)]
  assert group == ['batch=8', 'batch=8', 'batch=16', 'batch=16']


def test_processes_side_by_side(tmp_path, monkeypatch):
  """Each gets the command's flags and its own; the score says it has ended."""
  monkeypatch.setattr(sys, 'argv', [
    'finetune.py', '--from=RUN', '--grid=data.batch=8,16', '--jobs', '2',
  ])  # fmt: skip
  found = points(['data.batch=8,16'], (), 1)
  folders = {x: str(tmp_path / x.name) for x in found}
  scores = {}

  def train_all(runs, parts, is_done, changed, look):
    assert parts == [{}, {}]
    for run in runs:
      *command, keys, seed, workdir = run.command
      assert command == [sys.executable, '-m', 'train.finetune', '--from=RUN']
      assert keys == f'--config.{"=".join(run.keys[0])}'
      assert seed == '--config.seed=0'
      assert workdir == f'--workdir={run.folder}'
      assert not is_done(run.folder)
      scores[run.folder] = 50.0
      assert is_done(run.folder)
    runs[1].state, runs[1].why = 'failed', 'no space'
    return True

  monkeypatch.setattr(sweeping, 'score', scores.get)
  monkeypatch.setattr(children, 'train_all', train_all)
  monkeypatch.setattr(sweeping.partition, 'parts', lambda jobs: [{}] * jobs)
  failed = sweeping._side_by_side(found, folders, 2)
  assert failed == {found[1]: 'no space'}
