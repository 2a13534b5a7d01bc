"""Opening data: sources, tokenizers, fingerprints; errors, and the end."""

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import tokenizing
from input_pipeline.streams import fingerprints
from tests.helpers import REPOSITORY
from tests.helpers.corpora import (
  BATCH,
  VOCABULARY,
  data_config,
  json_config,
  open_data,
  take,
  texts,
  write,
)


def test_evaluation_source(corpus, workdir):
  """Another source for evaluation leaves the whole first one to training."""
  own = json_config(corpus, '[01].json.gz')
  other = f'json:{corpus}/2.json.gz'
  data = open_data(own, 5, VOCABULARY, other, workdir)
  assert [corpus.holdout for corpus in data.corpora] == [0]
  assert data.fingerprint['eval_source'][0]['file'] == '2.json.gz'
  with pytest.raises(ValueError, match="eval.source='json:nothing'"):
    open_data(own, 5, VOCABULARY, 'json:nothing', workdir)
  none = dataclasses.replace(own, holdout=0)
  with pytest.raises(ValueError, match=r'data\.holdout=0 and eval\.source'):
    open_data(none, 5, VOCABULARY, '', workdir)
  with pytest.raises(ValueError, match='both or neither must be synthetic'):
    open_data(own, 5, VOCABULARY, 'synthetic', workdir)


def test_tokenizer_in_the_workdir(corpus, workdir, tmp_path):
  path = os.path.join(workdir, 'tokenizer.model')
  given = json_config(corpus, tokenizer=path)
  first = open_data(given, 5, VOCABULARY, workdir=str(tmp_path))
  copy = tmp_path / 'tokenizer.model'
  assert copy.read_bytes() == Path(path).read_bytes()
  gone = json_config(corpus, tokenizer='/no/such.model')
  again = open_data(gone, 5, VOCABULARY, workdir=str(tmp_path))
  assert fingerprints.changes(first.fingerprint, again.fingerprint) == []
  with pytest.raises(ValueError, match=r"data\.tokenizer='/no/such.model'"):
    open_data(gone, 5, VOCABULARY)
  other = tokenizing.prepare(json_config(corpus), 0, 280, None)
  (tmp_path / 'other.model').write_bytes(other.model)
  changed = json_config(corpus, tokenizer=str(tmp_path / 'other.model'))
  with pytest.raises(ValueError, match='is not the tokenizer that --workdir'):
    open_data(changed, 5, VOCABULARY, workdir=str(tmp_path))
  with pytest.raises(ValueError, match=r'300 pieces.*model\.vocab_size=200'):
    open_data(given, 5, 200, workdir=str(tmp_path))


def test_fingerprint_of_moved_files(tmp_path, corpus, workdir, data):
  shutil.copytree(corpus, tmp_path / 'moved')
  moved = open_data(
    json_config(tmp_path / 'moved'), 5, VOCABULARY, workdir=workdir
  )
  assert moved.fingerprint == data.fingerprint


def test_fingerprint(corpus, workdir, data):
  assert json.loads(json.dumps(data.fingerprint)) == data.fingerprint
  faster = open_data(
    json_config(corpus, threads=1), 5, VOCABULARY, workdir=workdir
  )
  assert fingerprints.changes(data.fingerprint, faster.fingerprint) == []
  other = open_data(
    json_config(corpus, block=9), 6, VOCABULARY, workdir=workdir
  )
  assert fingerprints.changes(data.fingerprint, other.fingerprint) == [
    'data.block: 8, now 9',
    'seed: 5, now 6',
  ]
  fewer = json_config(corpus, '[01].json.gz')
  fewer = open_data(fewer, 5, VOCABULARY, workdir=workdir)
  changes = fingerprints.changes(data.fingerprint, fewer.fingerprint)
  assert 'source: 3 entries (2.json.gz among them), now 2 entries' in changes


def test_bad_documents(tmp_path, corpus, workdir, capfd):
  lines = [json.dumps({'text': text}) for text in texts(200)]
  lines[50] = '{"text": "cut'
  (tmp_path / 'a.json').write_text('\n'.join(lines))
  changes = {'source': f'json:{tmp_path}/a.json', 'streams': 1}
  arguments = {'seed': 5, 'vocab_size': VOCABULARY, 'workdir': workdir}
  data = open_data(data_config(**changes), **arguments)
  take(data, 30)
  assert data.report()['skipped'] == 1
  assert data.report()['documents'] >= 150
  assert capfd.readouterr().out.startswith(
    f'Skipped a document: {tmp_path}/a.json, line 51: not JSON'
  )
  lines[60], lines[70] = '[]', '{"text": ""}'
  (tmp_path / 'a.json').write_text('\n'.join(lines))
  data = open_data(data_config(**changes), **arguments)
  with pytest.raises(ValueError, match=r'2 of \d+ documents are unreadable.*'
                     r'data\.max_bad_share=0\.001.*line \d+'):  # fmt: skip
    take(data, 30)
  data = open_data(data_config(**changes, max_bad_share=0.01), **arguments)
  take(data, 30)
  assert data.report()['skipped'] == 3


def test_errors_of_files_come_through_the_graph(tmp_path, workdir, capfd):
  path = tmp_path / 'a.json.gz'
  write(path, texts(400))
  path.write_bytes(path.read_bytes()[:-30])
  changed = data_config(source=f'json:{path}')
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  with pytest.raises(ValueError, match=r'a\.json\.gz, line \d+: the .gz is'):
    take(data, 200)
  assert not capfd.readouterr().err  # TensorFlow would log it too


def test_no_documents(tmp_path, corpus, workdir):
  (tmp_path / 'a.json').write_text('\n')
  changed = data_config(source=f'json:{tmp_path}/a.json')
  data = open_data(changed, 5, VOCABULARY, workdir=workdir)
  with pytest.raises(ValueError, match=r'No document is left for stream \d of'):
    take(data, 1)
  assert not next(data.evaluation(np.arange(8), 8))['weights'].any()


def test_too_few_sentinels():
  changed = data_config(length=512, sentinels=27)
  with pytest.raises(ValueError, match=r'need 28 sentinels.*data\.sentinels'):
    open_data(changed, 0, VOCABULARY)


def test_synthetic_without_tensorflow():
  script = """
import sys
for name in ('tensorflow', 'tensorflow_datasets', 'jax', 'absl'):
  sys.modules[name] = None
import numpy as np
from input_pipeline import config
from tests.helpers.corpora import data_config, open_data
data = open_data(data_config(), 0, 300)
batch = next(data.batches(data.start(), np.arange(16)))
held_out = next(data.evaluation(np.arange(16), 16))
print(int(batch['weights'].sum() > 0), int(held_out['weights'].sum() > 0))
"""
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=REPOSITORY, check=True,
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout.split() == ['1', '1']


def test_closed_iterators_keep_nothing_open(data, monkeypatch):
  readers, open_reader = [], data.corpora[0].reader

  def reader(*args):
    readers.append(open_reader(*args))
    return readers[-1]

  monkeypatch.setattr(data.corpora[0], 'reader', reader)
  iterator = data.batches(data.start(), np.arange(BATCH))
  next(iterator)
  left = weakref.ref(readers.pop())
  iterator.close()
  del iterator
  gc.collect()
  assert left() is None


def test_closed_while_another_graph_is_built(data):
  """The garbage collector may close an iterator at any moment."""
  tf = pytest.importorskip('tensorflow')
  iterator = data.batches(data.start(), np.arange(BATCH))
  next(iterator)

  @tf.function
  def other():
    iterator.close()
    return tf.constant(1)

  assert other() == 1


@pytest.mark.parametrize('ending', ['running', 'deleted', 'failed'])
def test_processes_end_cleanly(corpus, workdir, ending, tmp_path):
  """A process ends cleanly while the graph's threads still work."""
  write(tmp_path / 'a.json.gz', texts(400))
  data = (tmp_path / 'a.json.gz').read_bytes()
  (tmp_path / 'a.json.gz').write_bytes(
    data[: -30 if ending == 'failed' else -1]
  )
  script = f"""
import numpy as np
from tests.helpers.corpora import json_config, open_data
data = open_data(
  json_config({str(tmp_path)!r}), 0, 300, workdir={workdir!r})
iterator = data.batches(data.start(), np.arange(16))
next(iterator)
if {ending == 'deleted'}:
  del iterator
while {ending == 'failed'}:
  next(iterator)
print('end\\n', end='', flush=True)
"""
  done = subprocess.run(
    [sys.executable, '-c', script], cwd=REPOSITORY, timeout=120, check=False,
    capture_output=True, text=True,
  )  # fmt: skip
  if ending == 'failed':
    assert done.returncode == 1, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('ValueError')
    assert 'cut short' in last
  else:
    assert 'end' in done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
