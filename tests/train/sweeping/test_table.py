"""The table of a sweep, in a terminal and elsewhere."""

import io
import json
import os

import pytest

from configs.commands import terminal
from train.sweeping import table
from train.sweeping.children import Run


@pytest.fixture
def runs(tmp_path):
  """Runs in every state; two have numbers."""
  found = [
    Run(name, str(tmp_path / name), (), steps=1000, state=name)
    for name in ('done', 'running', 'waiting', 'failed')
  ]
  found[3].why = 'seed=7 is none'
  rows = [
    {'step': 10, 'train/loss': 9.0, 'train/steps_per_second': 1.0},
    {'step': 940, 'train/loss': 4.25, 'train/steps_per_second': 0.5},
    {'step': 940, 'eval/loss': None},
  ]
  for run in found[:2]:
    os.mkdir(run.folder)
    with open(f'{run.folder}/metrics.jsonl', 'w') as file:
      file.writelines(f'{json.dumps(row)}\n' for row in rows)
      file.write('{"step": 9')  # a row that is being written
  return found


def test_each_run_has_a_row(runs):
  assert [line.split() for line in table.text(runs).split('\n')] == [
    ['run', 'step', 'loss', 'held-out', 'ETA'],
    ['done', '940', '4.2500', 'nan', 'done'],
    ['running', '940/1,000', '4.2500', 'nan', '2m00s'],
    ['waiting', 'waiting'],
    ['failed', 'failed'],
  ]
  runs[2].state = 'running'  # and has no numbers yet
  assert 'waiting' not in table.text(runs[2:3]).split()[-1:]
  assert table.text(runs[2:3]).endswith('starting')


def test_a_small_screen_shows_what_runs(runs):
  lines = table.text(runs, 4).split('\n')
  assert [line.split()[0] for line in lines] == [
    'run', 'running', 'failed', '...',
  ]  # fmt: skip
  assert lines[-1] == '... and 2 more'
  assert table.text(runs, 5) == table.text(runs)


def test_only_the_end_of_a_long_file_is_read(tmp_path):
  row = json.dumps({'step': 1, 'train/loss': 1.0, 'old': 1})
  last = json.dumps({'step': 2, 'train/loss': 2.0})
  count = 2 * table.TAIL // len(row)
  (tmp_path / 'metrics.jsonl').write_text(f'{row}\n' * count + f'{last}\n')
  found = table.numbers(str(tmp_path))
  assert (found['step'], found['train/loss']) == (2, 2.0)


def test_changes_are_printed(runs, capsys):
  live = table.Table(runs)
  for run in runs[1], runs[3]:
    live.changed(run)
  live.look()  # no terminal: nothing
  first, second = capsys.readouterr().out.splitlines()
  assert first == '[2 of 4] running: running'
  assert second.startswith('[2 of 4] failed: failed: seed=7 is none, after ')


def test_lines_are_shown_in_place_of_those_before(monkeypatch):
  """As many lines as were shown are cleared; notes stay above."""
  monkeypatch.setenv('COLUMNS', '4')
  stream = io.StringIO()
  stream.isatty = lambda: True
  line = terminal.LiveLine(stream=stream)
  line.show('abcdef\nb\nc')
  line.show('d\ne')
  line.note('end')
  line.close()
  assert stream.getvalue() == (
    '\r\x1b[Kabc\nb\nc\r\x1b[2A\x1b[Jd\ne\r\x1b[1A\x1b[Jend\n'
  )
