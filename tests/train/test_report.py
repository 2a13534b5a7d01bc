"""python -m train.report, on a real run and on mistakes."""

import json
import sys

import pytest

from tests.helpers import runs
from tests.helpers.workdirs import make
from train import report
from train.comparing.groups import NotComparableError


def command(*arguments):
  return runs.run([sys.executable, '-m', 'train.report', *map(str, arguments)])


def test_a_real_run(evaluated, tmp_path):
  """Its numbers, and those that train.goodput and train.fingerprint print."""
  out = tmp_path / 'report.html'
  done = command(evaluated, f'--out={out}')
  assert done.returncode == 0, done.stderr
  assert str(out) in done.stdout
  page = out.read_text()
  rows = (evaluated / 'metrics.jsonl').read_text().splitlines()
  (last,) = [x for x in map(json.loads, rows) if 'eval/loss' in x][-1:]
  for name in ('eval/loss', 'eval/other/loss'):
    assert f'>{last[name]:.4f}</a>' in page, name
  assert 'complete, at step 8 of 8' in page
  saved = evaluated / 'checkpoints' / '8' / 'run' / 'metadata'
  saved = json.loads(saved.read_text())
  assert saved['data']['tokenizer'][:16] in page
  for value in saved['made_by']['versions'].values():
    assert value in page
  assert saved['made_by']['commit'] in page
  names = sorted(x.name for x in tmp_path.iterdir())
  assert names == [
    'report.eval.loss.png',
    'report.html',
    'report.train.loss.png',
  ]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'Name workdirs'),
    (['W'], 'Give --out=FILE.html'),
    (['W', '--out=report.pdf'], '--out=report.pdf must end in .html'),
    (['W', '--out=r.html'], 'W: there is no such folder.'),
  ],
)
def test_mistakes_of_the_command(arguments, message):
  done = command(*arguments)
  assert done.returncode == 1
  assert done.stderr.startswith(f'Error: {message}')
  assert done.stderr.count('\n') == 1


def test_an_empty_workdir(tmp_path):
  with pytest.raises(ValueError, match='no run is there yet'):
    report.report([str(tmp_path)])


def test_other_vocabularies_are_refused(tmp_path):
  make(tmp_path / 'a', paper='t5', bits=False)
  make(tmp_path / 'b', paper='t5', bits=False, tokenizer='b' * 64)
  with pytest.raises(NotComparableError, match='Make a report of each kind'):
    report.report([str(tmp_path)])


def test_a_damaged_run_is_left_out_and_named(tmp_path, capsys):
  make(tmp_path / 'a')
  (make(tmp_path / 'b') / 'metrics.jsonl').write_text('no row\n')
  made = report.report([str(tmp_path)])
  assert '1 complete, 1 unreadable' in made.html
  assert 'b is left out: unreadable' in capsys.readouterr().err


def test_watching_shows_what_is_wrong_until_it_passes(tmp_path, monkeypatch):
  """The page of a folder without a run, which then gets one."""
  found = []

  class Server:
    server_port = 1

    def __init__(self, newest, port):
      self.newest = newest

    def __enter__(self):
      return self

    def __exit__(self, *error):
      pass

    def serve_forever(self):
      monkeypatch.setattr(report.serving.time, 'monotonic', lambda: 1e9)
      found.append(self.newest().html)
      make(tmp_path / 'a')
      monkeypatch.setattr(report.serving.time, 'monotonic', lambda: 2e9)
      found.append(self.newest().html)

  monkeypatch.setattr(report.serving, 'server', Server)
  report.watch([str(tmp_path)], 'title', 0, 0)
  empty, full = found
  assert 'no run is there yet' in empty
  assert '1 run: 1 complete' in full
  for text in found:
    assert '<meta http-equiv="refresh" content="15">' in text
