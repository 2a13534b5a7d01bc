"""Workdirs as points of a fit."""

import json

import pytest

from configs.scaling import flops, ladder
from train.runs import workdir
from train.scaling.runs import read_folder

ARG = 'llama:tiny,budgets=1e14,sizes=3'


@pytest.fixture
def folder(tmp_path):
  """Finished runs of a ladder, as far as a fit reads them."""
  found = ladder.read(ARG)
  for number, run in enumerate(ladder.runs(found)):
    config = found.config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(run.keys)
    place = tmp_path / 'runs' / run.name
    place.mkdir(parents=True)
    (place / workdir.NAME).write_text(json.dumps(workdir.plain(config)))
    steps = config.train.steps
    rows = [
      {'step': 0, 'eval/loss': 9.0},
      {'step': steps // 2, 'eval/loss': 5.0 + number / 10},
      {'step': steps, 'train/loss': 3.0, 'eval/loss': 4.0 + number / 10},
    ]
    text = ''.join(f'{json.dumps(row)}\n' for row in rows)
    (place / 'metrics.jsonl').write_text(text)
  return tmp_path / 'runs'


def change(folder, number, key, value):
  path = sorted(folder.iterdir())[number] / workdir.NAME
  config = json.loads(path.read_text())
  group, name = key.split('.')
  config[group][name] = value
  path.write_text(json.dumps(config))


def test_runs_are_points(folder):
  """N, D and C are those of the plan, the loss is the last held-out one."""
  points = read_folder(str(folder))
  runs = {run.name: run for run in ladder.runs(ladder.read(ARG))}
  assert set(points.runs) == set(runs)
  for i, name in enumerate(points.runs):
    assert points.params[i] == runs[name].shape.params
    assert points.tokens[i] == runs[name].tokens
    assert points.flops[i] == pytest.approx(runs[name].flops)
  assert sorted(points.loss) == [4.0, 4.1, 4.2]


@pytest.mark.parametrize('convention', ['palm', 'exact'])
def test_flops_are_those_of_the_plan(folder, convention):
  """A folder's FLOPs are what `of_step` says of each run's config."""
  points = read_folder(str(folder), convention=convention)
  for i, name in enumerate(points.runs):
    config = workdir.read_config(str(folder / name))
    made = config.train.steps * flops.of_step(config, convention)
    assert points.flops[i] == pytest.approx(made, rel=1e-12)


def test_conventions(folder):
  few = read_folder(str(folder), counted='non_embedding', convention='palm')
  planned = ladder.read(f'{ARG},count=non_embedding,flops=palm')
  all_of = read_folder(str(folder))
  assert all(few.params < all_of.params)
  assert 'non_embedding' in few.notes[-1] or 'palm' in ' '.join(few.notes)
  assert planned.options['flops'] == 'palm'
  assert all(few.flops > 0)


def test_curves_have_all_evaluations(folder):
  points = read_folder(str(folder), curves=True)
  assert len(points) == 6
  assert len(set(points.runs)) == 3


def test_unfinished_runs_are_left_out(folder):
  change(folder, 0, 'train.steps', 10**9)
  points = read_folder(str(folder))
  assert len(points) == 2
  assert any('1 runs have no evaluation after' in x for x in points.notes)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('model.vocab_size', 512),
    ('data.objective', 'prefix'),
    ('data.length', 8),
  ],
)
def test_runs_of_different_kinds_are_refused(folder, key, value):
  change(folder, 1, key, value)
  with pytest.raises(ValueError, match=f'cannot be compared: {key}'):
    read_folder(str(folder))


def test_another_tokenizer_is_refused(folder):
  for number, path in enumerate(sorted(folder.iterdir())):
    (path / 'tokenizer.model').write_bytes(bytes([number // 2]))
  with pytest.raises(ValueError, match='cannot be compared: tokenizer.model'):
    read_folder(str(folder))


def test_no_runs(tmp_path):
  with pytest.raises(ValueError, match='has no workdir with an evaluation'):
    read_folder(str(tmp_path))
  with pytest.raises(ValueError, match='neither a table'):
    read_folder(str(tmp_path / 'none'))
