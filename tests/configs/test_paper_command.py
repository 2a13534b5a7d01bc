"""`python -m configs.papers`: what it prints, and a row made for real."""

import json
import random
import re
import subprocess
import sys

import pytest

from configs.papers import __main__ as papers
from configs.papers import scores
from tests.helpers import REPOSITORY


def write_rte(folder):
  (folder / 'RTE').mkdir(parents=True)
  for name, count in ('train', 40), ('dev', 8):
    lines = [
      f'{n}\tSentence {n} is here.\tIt is {n}.\t{"not_" * (n % 2)}entailment'
      for n in range(count)
    ]
    head = 'index\tsentence1\tsentence2\tlabel'
    (folder / 'RTE' / f'{name}.tsv').write_text('\n'.join([head, *lines]))


@pytest.mark.slow
def test_a_row_is_made_at_the_tiny_size(tmp_path):
  """For real: pretraining, two seeds of a task; a missing task is named."""
  write_rte(tmp_path / 'tasks')
  rng, letters = random.Random(0), 'abcdefghijklmnopqrstuvwxyz'
  words = [''.join(rng.choices(letters, k=6)) for _ in range(8000)]
  texts = [
    '. '.join(' '.join(rng.choices(words, k=12)) for _ in range(8))
    for _ in range(400)
  ]
  (tmp_path / 'text.txt').write_text('\n\n'.join(texts))
  found = command_line(
    'electra.table1', '--row=BERT-base', '--tiny', '--tasks=glue/rte,glue/cola',
    f'--data={tmp_path}/tasks', f'--runs={tmp_path}/runs',
    f'--text=text:{tmp_path}/text.txt',
  )  # fmt: skip
  assert found.returncode == 1, found.stderr
  assert 'Error: 1 of 3 runs failed:' in found.stderr
  assert re.search(r'glue/cola: .*no file .*CoLA', found.stderr)
  lines = [x.split() for x in found.stdout.split('\n') if '  runs ' in x]
  assert lines == [['runs', *'0000000'], ['runs', '2', '0']]
  table = papers.find('electra.table1')
  row = papers.find_row(table, 'BERT-base')
  cells = scores.ours(papers.TABLES, table, row, str(tmp_path / 'runs'))
  cell = cells[[c.name for c in table.columns].index('RTE')]
  assert (cell.runs, cell.left) == (2, 0)
  assert 0 <= cell.value <= 100
  for seed in 0, 1:
    place = tmp_path / f'runs/electra.table1/BERT-base/glue/rte/seed={seed}'
    rows = [json.loads(x) for x in (place / 'metrics.jsonl').open()]
    assert rows[-1]['step'] == 20
    assert 'eval/glue/rte/accuracy' in rows[-1]


def command_line(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'configs.papers', *arguments],
    cwd=REPOSITORY, capture_output=True, text=True,
  )  # fmt: skip


def test_the_command():
  found = command_line()
  assert found.returncode == 0, found.stderr
  assert all(name in found.stdout for name in papers.TABLES)
  found = command_line('t5.table2', '--row=decoder-LM')
  assert found.stdout.rstrip('\n') == papers.shown(
    papers.find('t5.table2'), 'decoder-LM'
  )
  found = command_line('t5.tabel2')
  assert (found.returncode, found.stdout) == (1, '')
  assert "Did you mean 't5.table2'?" in found.stderr
  assert 'Traceback' not in found.stderr
  found = command_line('t5.table2', '--row=decoder')
  assert "Did you mean 'decoder-LM'?" in found.stderr
  for table, row, message in (
    ('2', '', '--tiny makes one row: give --row, one of encoder-decoder-denoi'),
    ('8', 'Wikipedia-TBC', 'Wikipedia-TBC cannot be run. The Toronto Books'),
  ):
    found = command_line(f't5.table{table}', '--tiny', f'--row={row}')
    assert (found.returncode, found.stdout) == (1, '')
    assert message in found.stderr
