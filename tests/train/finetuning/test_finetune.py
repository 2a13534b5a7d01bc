"""Fine-tuning runs: recipes, heads, scores, seeds, kills."""

import json
import signal
import sys

import numpy as np
import pytest

from configs import bert as pretraining
from configs import grids
from configs.finetune import bert, t5
from input_pipeline.tasks import catalog, metrics
from input_pipeline.tasks.metrics import averages
from tests.helpers import labelled, runs
from train import evaluate, finetune, loop
from train.finetuning import adoption, scoring, sweeping
from train.fingerprint import fingerprint
from train.reporting.metrics import read_metrics
from train.runs import opening

SMALL = {
  'model.vocab_size': 100, 'model.embed_dim': 16, 'model.mlp_dim': 32,
  'model.heads': 2, 'model.kv_heads': 2, 'model.head_dim': 8,
}  # fmt: skip


@pytest.fixture(scope='module')
def task(tmp_path_factory):
  return labelled.write_task(tmp_path_factory.mktemp('task') / 'praise')


@pytest.fixture(scope='module')
def pretrained_run(tmp_path_factory):
  """A tiny BERT of a few steps."""
  folder = tmp_path_factory.mktemp('pretrained')
  source = labelled.write_text(folder)
  config = runs.set_keys(pretraining.get_config('tiny'), SMALL | {
    'model.encoder_layers': 2, 'data.source': source, 'data.length': 32,
    'data.predictions': 5, 'train.phases': (), 'data.batch': 8,
    'data.holdout': 10, 'train.steps': 4, 'schedule.warmup_steps': 1,
    'eval.every': 4, 'checkpoint.every': 4,
  })  # fmt: skip
  loop.train(config, str(folder / 'run'))
  return str(folder / 'run')


def recipe(task, **keys):
  config = bert.get_config('size=tiny')
  return runs.set_keys(config, SMALL | {
    'data.source': task, 'data.length': 16, 'data.batch': 8,
    'train.epochs': 6.0, 'schedule.learning_rate': 3e-3,
    'model.dropout': 0.0, 'model.attention_dropout': 0.0, 'eval.every': 150,
  } | keys)  # fmt: skip


@pytest.fixture(scope='module')
def tuned(pretrained_run, task, tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('tuned') / 'run')
  finetune.finetune(recipe(task), folder, pretrained_run)
  return folder


def test_the_task_decides_what_the_recipe_leaves_open(task):
  config = adoption.resolve(recipe(task, **{'data.length': 0}))
  assert config.data.objective == 'classification'
  assert (config.model.head, config.model.classes) == ('sequence', 2)
  assert config.data.length == 128
  # Six epochs of 400 examples in batches of 8; warm-up over a tenth.
  assert (config.train.steps, config.schedule.warmup_steps) == (300, 30)
  assert config.checkpoint.every == 150
  # An epoch of the first 100 examples.
  few = adoption.resolve(
    recipe(task, **{'data.documents': 100, 'eval.every': 0})
  )
  assert (few.train.steps, few.eval.every) == (75, 13)
  with pytest.raises(ValueError, match='steps is 50, but train.epochs=6.0'):
    adoption.resolve(recipe(task, **{'train.steps': 50}))
  with pytest.raises(ValueError, match='is not a task'):
    adoption.resolve(recipe('docs'))
  with pytest.raises(ValueError, match='is text to text alone'):
    adoption.resolve(recipe(f'{task},kind=text'))


def test_a_run_learns_its_task(tuned, pretrained_run):
  """The run takes trunk and tokenizer of the source, with a new head."""
  run = opening.open_run(tuned)
  before = opening.open_run(pretrained_run)
  assert set(run.params) == {'embed', 'encoder', 'pooler', 'classes'}
  assert run.tokenizer.fingerprint == before.tokenizer.fingerprint
  rows = list(read_metrics(tuned))
  scores = [
    row['eval/tsv/praise/accuracy'] for row in rows if 'eval/score' in row
  ]
  assert scores[-1] == 100.0 > scores[0]


def test_evaluation_gives_the_scores_of_the_run(tuned, tmp_path):
  found = evaluate.evaluate_run(tuned, predictions=str(tmp_path))
  rows = list(read_metrics(tuned))
  assert found['tsv/praise/accuracy'] == rows[-1]['eval/tsv/praise/accuracy']
  assert found['score'] == rows[-1]['eval/score']
  assert found['labels'] == 24
  written = (tmp_path / 'tsv-praise.txt').read_text().split()
  assert len(written) == 24
  assert set(written) == {'bad', 'good'}


@pytest.mark.parametrize('batch', [16, 40])
def test_scores_do_not_depend_on_the_batch(tuned, batch):
  """24 examples on 8 devices: the last batch is filled with padding."""
  run = opening.open_run(tuned)
  data = opening.open_data(run)
  expected = scoring.make_scoring(run.setup, data)(run.params)
  config = runs.set_keys(run.config, {'data.batch': batch})
  other = opening.open_run(tuned, config=config)
  found = scoring.make_scoring(other.setup, opening.open_data(other))(
    other.params
  )
  for a, b in zip(expected, found, strict=True):
    assert len(b.predictions) == 24
    assert list(a.predictions) == list(b.predictions)
    assert a.metrics == b.metrics


def test_a_point_of_a_grid_has_a_folder_and_a_line(
  pretrained_run, task, tmp_path
):
  """A finished run is not made again; the table has the median and spread."""
  points = grids.points(['schedule.learning_rate=1e-3,1e-9'], seeds=2)
  assert [p.name for p in points][:2] == [
    'learning_rate=1e-3,seed=0', 'learning_rate=1e-3,seed=1',
  ]  # fmt: skip
  config, made = recipe(task, **{'train.epochs': 0.1, 'eval.every': 5}), []

  def run(point, folder):
    made.append(point.name)
    finetune.finetune(grids.configured(config, point), folder, pretrained_run)

  sweeping.run_all(points[:3], str(tmp_path), 1, run)
  sweeping.run_all(points, str(tmp_path), 1, run)
  assert made == [p.name for p in points]
  first, second = json.loads((tmp_path / 'scores.json').read_text())
  assert (first['group'], first['runs']) == ('learning_rate=1e-3', 2)
  assert first['median'] == pytest.approx(np.mean(first['scores']))
  assert first['spread'] == pytest.approx(np.std(first['scores'], ddof=1))
  assert second['best'] == max(second['scores'])
  for grid, error in (
    (['data.batch'], 'must be KEY=VALUE'),
    (['data.batches=1'], 'has no key'),
    (['data.batch=x'], "'x' is not of type int"),
  ):
    with pytest.raises(ValueError, match=error):
      grids.configured(config, grids.points(grid, seeds=1)[0])


def test_a_task_of_a_mixture_is_named_with_its_place(task):
  config = runs.set_keys(t5.get_config('size=tiny'), {
    'data.source': '', 'data.rates': 'equal',
    'data.mixture': ((task, 0), ('task:glue/mrcp', 0)),
  })  # fmt: skip
  with pytest.raises(ValueError) as error:
    adoption.resolve(config)
  assert str(error.value).startswith("data.mixture[1]='task:glue/mrcp': task")
  assert "Did you mean 'glue/mrpc'?" in str(error.value)


def test_wnli_is_refused_before_anything_is_compiled(task, tmp_path):
  """T5 does not train on it (Raffel et al. 2020, 2.4)."""
  folder = tmp_path / 'WNLI'
  folder.mkdir()
  header, row = 'sentence1\tsentence2\tlabel\n', 'It ran.\tBob ran.\t1\n'
  for name in ('train', 'dev'):
    (folder / f'{name}.tsv').write_text(header + row)
  config = runs.set_keys(t5.get_config('size=tiny'), {
    'data.source': '', 'data.rates': 'equal', 'data.length': 32,
    'data.mixture': ((task, 0), ('task:glue/wnli', 0)),
    'data.task_folder': str(tmp_path), 'data.target_length': 8,
    'data.tokenizer_kind': 'bytes', 'model.vocab_size': 384,
  })  # fmt: skip
  with pytest.raises(ValueError) as error:
    loop.train(adoption.resolve(config), str(tmp_path / 'run'))
  assert str(error.value).startswith("data.mixture[1]='task:glue/wnli': T5 doe")
  assert '--source=task:glue/wnli@validation' in str(error.value)


def test_examples_that_lose_tokens_are_counted(task, tmp_path, capsys):
  config = recipe(task, **{'data.length': 8, 'train.epochs': 0.02})
  config = runs.set_keys(config, {'train.log_every': 1, 'eval.every': 1})
  config = adoption.resolve(config)
  folder = str(tmp_path / 'run')
  loop.train(config, folder)
  data = opening.open_data(opening.open_run(folder))

  def longer(corpus):  # than the row's 8 tokens, with [CLS] and [SEP]
    texts = [x['sentence'].encode() for x in corpus.source.examples]
    return sum(len(ids) > 6 for ids in data.tokenizer.encode_batch(texts))

  (held_out,) = map(longer, data.evaluated)
  rows = list(read_metrics(folder))
  scored = [row for row in rows if 'eval/score' in row]
  assert held_out
  assert [row['eval/tsv/praise/cut'] for row in scored] == [held_out] * 2
  said = f'{held_out} examples of tsv/praise lost tokens'
  assert capsys.readouterr().out.count(said) == 2
  found = evaluate.evaluate_run(folder)
  assert found['tsv/praise/cut'] == held_out
  # What is trained on is counted apart, and once, however often it is read.
  trained = data.batches(data.start(), np.arange(8))
  for _ in range(150):  # three epochs
    next(trained)
  trained.close()
  assert data.report()['cut'] == longer(data.corpora[0])
  assert [row['data/cut'] for row in rows if 'data/cut' in row][0] > 0


def test_what_does_not_fit_a_task_is_refused(task, pretrained_run, tmp_path):
  with pytest.raises(ValueError, match="has model.family='encoder'"):
    finetune.finetune(
      runs.set_keys(t5.get_config('size=tiny'), {'data.source': task}),
      str(tmp_path / 'a'),
      pretrained_run,
    )
  config = adoption.resolve(recipe(task))
  with pytest.raises(ValueError, match='needs model.head=sequence'):
    loop.train(
      runs.set_keys(config, {'model.head': 'mlm'}), str(tmp_path / 'b')
    )
  with pytest.raises(ValueError, match='needs model.classes=2 or more'):
    loop.train(runs.set_keys(config, {'model.classes': 1}), str(tmp_path / 'c'))
  with pytest.raises(ValueError, match='are for python -m train.finetune'):
    loop.train(
      runs.set_keys(config, {'train.epochs': 1.0}), str(tmp_path / 'd')
    )


MULTI = {
  'data.length': 32, 'data.target_length': 8, 'data.batch': 8,
  'data.streams': 2, 'data.block': 16, 'data.holdout': 10, 'data.threads': 1,
  'model.encoder_layers': 1, 'model.decoder_layers': 1, 'train.steps': 12,
  'train.log_every': 1, 'eval.every': 3, 'checkpoint.every': 3,
  'checkpoint.keep_every': 0,
}  # fmt: skip


@pytest.mark.slow
def test_killed_in_a_mixture_of_tasks_and_text(tmp_path):
  """SIGKILL ends it while it learns two tasks and a text; no bit differs."""
  first = labelled.write_task(tmp_path / 'one')
  second = labelled.write_task(tmp_path / 'two', count=40).replace(
    'name=praise', 'name=blame'
  )
  text = runs.write_text(tmp_path / 'text')
  mixture = ((first, 0), (second, 0), (text, 0))
  keys = SMALL | MULTI | {
    'data.source': '', 'data.mixture': mixture, 'data.rates': 'examples',
    'data.rate_cap': 50, 'data.sentinels': 20, 'data.document_tokens': 999,
    'data.mean_span_length': 3.0,
    'data.objective': 'span_corruption', 'data.noise_density': 0.15,
    'model.vocab_size': 300,
  }  # fmt: skip
  command = [
    *(sys.executable, '-m', 'train.finetune'),
    '--config=finetune/t5.py:size=tiny',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  done = runs.run([*command, f'--workdir={whole}'])
  assert done.returncode == 0, done.stderr
  rows = [json.loads(x) for x in (whole / 'metrics.jsonl').open()]
  assert {'eval/tsv/praise/accuracy', 'eval/tsv/blame/accuracy'} <= set(
    rows[-1]
  )
  # All three are read.
  assert all(runs.rows(whole, f'data/documents_{n}')[-1][1] for n in range(3))
  for step in 4, 8:
    process = runs.start([*command, f'--workdir={killed}'])
    for line in process.stdout:
      if line.startswith(f'step {step}/'):
        break
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
  done = runs.run([*command, f'--workdir={killed}'])
  assert done.returncode == 0, done.stderr
  assert 'Resuming from the checkpoint of step' in done.stdout
  assert fingerprint(str(killed)) == fingerprint(str(whole))
  for name in 'train/loss', 'eval/tsv/praise/accuracy', 'eval/loss':
    assert runs.rows(killed, name) == runs.rows(whole, name)
  _check_best(whole, killed)


def _check_best(whole, killed):
  """Each task has a best step, whose checkpoint is there."""
  found = json.loads((killed / 'best.json').read_text())
  assert found == json.loads((whole / 'best.json').read_text())
  names = {'best': (found, 'eval/score')}
  for task in 'tsv/praise', 'tsv/blame':
    names[f'best:{task}'] = found['tasks'][task], f'eval/{task}/score'
  for folder in whole, killed:
    assert runs.checkpoints(folder) == sorted(
      {12, *(place['step'] for place, _ in names.values())}
    )
  for name, (place, number) in names.items():
    assert place['value'] == max(x for _, x in runs.rows(whole, number))
    again = evaluate.evaluate_run(str(killed), name)
    assert again['step'] == place['step']
    assert again[number.removeprefix('eval/')] == place['value']


BENCHMARKS = [
  ('glue', averages.GLUE['t5'], ('glue/wnli', 'glue/ax')),
  (
    'super_glue',
    averages.SUPERGLUE,
    ('super_glue/dpr', 'super_glue/axb', 'super_glue/axg'),
  ),
]


@pytest.mark.parametrize(('group', 'columns', 'helpers'), BENCHMARKS)
def test_the_score_of_all_tasks_is_the_average(group, columns, helpers):
  """Each split of MNLI is scored apart; helpers do not count."""
  pairs = [pair for column in columns for pair in column]
  results = {}
  for n, (task, metric) in enumerate(pairs):
    results.setdefault(task, {})[metric] = 30.0 + n**2
  found = []
  for name, numbers in results.items():
    half = 'mnli' if name.startswith('mnli') else name
    task = catalog.find(f'{group}/{half}')
    split = name.replace(half, 'validation')
    found.append(scoring.Scores(task, split, [], [], numbers, 0))
  found += [
    scoring.Scores(catalog.find(x), 'validation', [], [], {'accuracy': 1.0}, 0)
    for x in helpers
  ]
  if group == 'glue':
    expected = metrics.glue_average(results, 't5')
  else:
    expected = metrics.superglue_average(results)
  means = scoring.means(found)
  assert means['score'] == pytest.approx(expected['average'])
  assert means[f'{helpers[0]}/accuracy'] == 1.0
  # A helper alone has a score: a run on it keeps its best checkpoint.
  assert scoring.means(found[-1:])['score'] == 1.0
