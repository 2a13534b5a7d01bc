"""The scripts and the notebook in examples/ run as they are."""

import json
import re
import runpy
import sys
import tempfile

import pytest

from input_pipeline.sources import documentation
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.slow
EXAMPLES = REPOSITORY / 'examples'


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
  folder = tmp_path_factory.mktemp('texts')
  for n, text in enumerate(documentation.documents()[:400]):
    (folder / f'{n:03d}.txt').write_bytes(text)
  return f'--texts={folder}/*.txt'


def run(monkeypatch, script, *arguments):
  monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
  runpy.run_path(str(EXAMPLES / script), run_name='__main__')


def test_runs_from_python(texts, tmp_path, monkeypatch, capsys):
  """Two runs are compared; another script resumes one and applies it."""
  run(
    monkeypatch, 'compare_an_ablation.py', f'--folder={tmp_path}', texts,
    '--steps=4',
  )  # fmt: skip
  shown = capsys.readouterr().out
  assert 'rope_theta' in shown
  assert 'step 0: ' in shown
  assert re.search(r'step 4: \d\.\d+ base, \d\.\d+ with position=rope', shown)

  workdir = tmp_path / 'base'
  run(
    monkeypatch, 'train_on_texts.py', f'--workdir={workdir}', texts, '--steps=4'
  )
  shown = capsys.readouterr().out
  assert 'Resuming from the checkpoint of step 4' in shown
  assert "{'step': 4, 'loss': " in shown

  run(monkeypatch, 'apply_a_model.py', workdir, 'The function returns')
  read, _, following = capsys.readouterr().out.partition('Next:')
  assert "function' " in read
  shares = [float(line.split()[-1]) for line in following.splitlines()[1:]]
  assert len(shares) == 5
  assert shares == sorted(shares, reverse=True)


def test_the_notebook(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  with open(EXAMPLES / 'tour.ipynb', encoding='utf-8') as file:
    cells = json.load(file)['cells']
  names = {}
  for cell in cells:
    if cell['cell_type'] == 'code':
      exec(''.join(cell['source']), names)
  logits = names['found']['logits']
  assert logits.shape[::2] == (1, names['config'].model.vocab_size)
  shown = capsys.readouterr().out
  assert 'prediction: ' in shown
  assert 'rope_theta' in shown
