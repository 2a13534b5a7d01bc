"""What a run writes and knows, its exported checkpoint writes and knows too."""

import json
import re
import sys

import pytest

from tests.helpers import runs

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """The flag of a tiny run of GPT-2, and of its export."""
  folder = tmp_path_factory.mktemp('gpt2')
  source = runs.write_text(folder / 'text')
  changes = {'system': 'gpt2', 'model__vocab_size': 512, **runs.STEPS}
  changes['data__start'] = 'eos'  # as published GPT-2 is asked
  runs.train(folder / 'run', data__source=source, **changes)
  done = runs.run(
    [
      *(sys.executable, '-m', 'models.pretrained', f'--workdir={folder}/run'),
      f'--to={folder}/exported',
    ]
  )
  assert done.returncode == 0, done.stderr
  return f'--workdir={folder}/run', f'--from={folder}/exported'


def shown(name, model, *flags):
  done = runs.run([sys.executable, '-m', f'train.{name}', model, *flags])
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_written_texts(models):
  flags = '--text=abc def', '--text=a', '--length=9', '--batch=2'
  run, exported = (shown('generate', model, *flags) for model in models)
  assert run == exported
  assert run.count('prediction: ') == 2
  searched = [shown('generate', x, *flags, '--beams=4') for x in models]
  assert searched[0] == searched[1]


def test_scores(models, tmp_path):
  rows = {
    'cloze': {'context': 'abc def', 'continuation': 'ghi'},
    'choice': {'context': 'abc', 'choices': ['def', 'a b c'], 'label': 0},
    'answer': {'question': 'abc', 'answer': '7'},
  }
  for name, row in rows.items():
    (tmp_path / f'{name}.jsonl').write_text(f'{json.dumps(row)}\n')
  tasks = ','.join(f'{name}:{tmp_path}/{name}.jsonl' for name in rows)
  flags = f'--tasks={tasks}', '--length=5', '--window=16'
  found = []
  for number, model in enumerate(models):
    out = tmp_path / f'{number}.json'
    text = shown('evaluate', model, *flags, f'--out={out}')
    assert 'perplexity' in text
    found.append(json.loads(out.read_text())['tasks'])
  assert [*found[0]] == tasks.split(',')
  for name, metrics in found[0].items():
    assert found[1][name] == pytest.approx(metrics, rel=1e-4)


def test_perplexities(models, tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('abc def ghi ' * 20)
  flags = f'--texts=textfile:{path}', '--window=16', '--stride=4'
  run, exported = (
    json.loads(shown('evaluate', model, *flags).splitlines()[-1])
    for model in models
  )
  assert run.pop('texts') == exported.pop('texts')
  assert run == pytest.approx(exported, rel=1e-4)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--shots=2'], 'needs --tasks or --lm_eval'),
    (['--tasks=lambada', '--texts=docs'], 'Give one of --texts, --tasks'),
    (['--tasks=lambada', '--stride=-1'], 'must not be below 0'),
    (['--tasks=lambda'], "'lambda'.*lambada"),
    (['--tasks=lambada', '--samples=4'], 'give a temperature'),
    (['--tasks=lambada', '--shots_file=a'], 'needs --shots'),
    (['--texts=docs', '--source=a'], 'has no use with --texts'),
  ],
)
def test_flags_that_do_not_fit(models, flags, message):
  command = [sys.executable, '-m', 'train.evaluate', models[0], *flags]
  done = runs.run(command)
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert re.search(message, line), line
