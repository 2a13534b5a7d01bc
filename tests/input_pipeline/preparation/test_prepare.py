"""The command input_pipeline.prepare: killed, refused, remote, for TFDS."""

import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import prepare
from input_pipeline.preparation import writers
from input_pipeline.sources import opening
from tests.helpers import REPOSITORY, caches, runs
from tests.helpers.caches import (
  BAD,
  COUNTS,
  EMPTY,
  contents,
  documents,
  open_data,
  settings,
)
from tests.helpers.corpora import VOCABULARY, assert_same

pytestmark = pytest.mark.filterwarnings('ignore::ResourceWarning')


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return caches.write_corpus(tmp_path_factory.mktemp('corpus'))


@pytest.fixture(scope='module')
def made(corpus, tmp_path_factory):
  return caches.make(corpus, tmp_path_factory.mktemp('made') / 'cache')


def command(corpus, out, *flags):
  config = settings('')
  return [
    *(sys.executable, '-m', 'input_pipeline.prepare'),
    '--config=configs/t5.py:tiny', f'--out={out}',
    f'--config.model.vocab_size={VOCABULARY}',
    f'--config.data.sentinels={config.data.sentinels}',
    '--config.data.max_bad_share=0.01',
    f'--config.data.source=json:{corpus}/*.json.gz', *flags,
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'data__source': '[01].json.gz'},
      'made_of.0.: 3 entries .2.json.gz among them., now 2',
    ),
    ({'model__vocab_size': 280}, 'tokenizer|300 pieces'),
    ({'data__source': 'synthetic'}, 'needs no preparation'),
    ({'data__source': 'cache:x'}, 'needs no preparation'),
    ({'data__source': 'nothing'}, 'matches no file'),
    ({'data__max_bad_share': 0.0}, r'2 of 150 documents .*0.json.gz, line 51'),
  ],
)
def test_refused(corpus, made, tmp_path, changes, message):
  folder = tmp_path / 'cache'
  if 'data__max_bad_share' not in changes:
    shutil.copytree(made, folder)
  if (source := changes.get('data__source', '*.json.gz'))[0] in '*[n':
    changes = changes | {'data__source': f'json:{corpus}/{source}'}
  config = settings('', **changes)
  with pytest.raises(ValueError, match=message):
    prepare.prepare(config, str(folder), jobs=1)


def test_kills(corpus, made, tmp_path):
  """Two processes, killed at random and run again, write the same bytes."""
  for number in range(6):  # more files, so that kills come in between
    for file in range(3):
      name = tmp_path / f'{number}{file}.json.gz'
      shutil.copy(corpus / f'{file}.json.gz', name)
  start = functools.partial(
    subprocess.Popen, cwd=REPOSITORY, stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  tokenizer = f'--config.data.tokenizer={made}/tokenizer.model'
  first = start(command(tmp_path, tmp_path / 'whole', tokenizer, '--jobs=1'))
  assert first.wait(100) == 0, first.stderr.read()
  expected = contents(tmp_path / 'whole')
  assert len(expected) == 20
  rng, partly = random.Random(0), set()
  for _ in range(40):
    again = start(command(tmp_path, tmp_path / 'cut', tokenizer, '--jobs=2'))
    seen = len(list((tmp_path / 'cut').glob('*.array_record')))
    limit = time.monotonic() + 60
    while again.poll() is None and time.monotonic() < limit:
      now = len(list((tmp_path / 'cut').glob('*.array_record')))
      if now >= seen + 3:  # a kill at any moment, each time further on
        time.sleep(rng.random() * 0.02)
        again.send_signal(signal.SIGKILL)
        partly.add(now)
        break
      time.sleep(0.001)
    if again.wait(100) == 0:
      break
  assert again.returncode == 0, again.stderr.read()
  assert len(partly) >= 2
  assert contents(tmp_path / 'cut') == expected


def test_remote(corpus, tmp_path):
  """TensorFlow's filesystem stands for gs://: source, cache, tokenizer."""
  tf = pytest.importorskip('tensorflow')
  for path in corpus.glob('*.gz'):
    tf.io.gfile.copy(str(path), f'ram://remote/{path.name}', overwrite=True)
  config = settings('json:ram://remote/*.json.gz')
  (name,) = prepare.prepare(config, 'ram://remote/cache', jobs=1)
  again = prepare.prepare(config, 'ram://remote/cache', jobs=1)
  assert again == [name] == ['cache:ram://remote/cache']
  near = tmp_path / 'cache'
  local = settings(f'json:{corpus}/*.json.gz')
  prepare.prepare(local, str(near), jobs=1)
  data, expected = open_data(name, near), open_data(f'cache:{near}', near)
  rows = np.arange(16)
  for first, second in zip(
    itertools.islice(data.batches(data.start(), rows), 20),
    itertools.islice(expected.batches(expected.start(), rows), 20),
    strict=True,
  ):
    assert_same(first, second)
  with pytest.raises(
    ValueError, match='is not a token cache: ram://remote/none'
  ):
    open_data('cache:ram://remote/none', near)
  with pytest.raises((OSError, ValueError), match='s3q://'):
    open_data('json:s3q://bucket/*.gz', near)


@pytest.mark.parametrize('suffix', ['array_record', 'tfrecord'])
def test_tfds(corpus, made, tmp_path, suffix, monkeypatch):
  """A dataset of json files has the same texts and a validation split."""
  tfds = pytest.importorskip('tensorflow_datasets')
  config = settings(
    f'json:{corpus}/[01].json.gz', eval__source=f'json:{corpus}/2.json.gz'
  )
  arguments = str(tmp_path), 'c4/en:3.1.0', suffix, 1
  place = Path(prepare.prepare_tfds(config, *arguments))
  before = contents(place)
  broken = f'c4-train.{suffix}-00001-of-00002'
  os.truncate(place / broken, 9)
  assert str(place) == prepare.prepare_tfds(config, *arguments)
  assert contents(place) == before
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(tmp_path))
  source = opening.open_source('tfds:c4/en', 0, 0, 0)
  assert source.lengths == [149, 230]
  assert source.fingerprint['name'] == 'c4/en/3.1.0'
  for file in 0, 1:
    expected = [
      ' ' if (file, index) == (0, EMPTY) else documents(file)[index]
      for index in range(COUNTS[file])
      if (file, index) != (0, BAD)
    ]
    found = [source.text(r).decode() for _, r in source.records(file, 0)]
    assert found == expected
  assert tfds.builder('c4/en').info.splits['validation'].num_examples == 97
  # A cache of it brings the validation split along.
  folder = tmp_path / 'cache'
  config = settings('tfds:c4/en', data__tokenizer=str(made / 'tokenizer.model'))
  prepare.prepare(config, str(folder), jobs=1)
  raw = open_data('tfds:c4/en', made, holdout=0)
  cached = open_data(f'cache:{folder}', made, holdout=0)
  assert len(cached.fingerprint['eval_source']) == 1
  for read in (
    lambda data: data.batches(data.start(), np.arange(16)),
    lambda data: data.evaluation(np.arange(16), 16),
  ):
    pairs = zip(read(raw), read(cached), strict=True)
    for first, second in itertools.islice(pairs, 10):
      assert_same(first, second)


def test_tfds_is_not_found_before_it_is_finished(corpus, tmp_path, monkeypatch):
  monkeypatch.setattr(writers.Examples, 'write', lambda *_: os.stat('/full'))
  config = settings(f'json:{corpus}/1.json.gz')
  with pytest.raises(OSError, match=r'c4-train.*cannot be made: No such'):
    prepare.prepare_tfds(config, str(tmp_path), 'c4', 'tfrecord', 1)
  assert os.listdir(tmp_path / 'c4/1.0.0') == ['manifest.json']
  for name in 'C4', 'c4/en:3', 'c4:3.1.0/en':
    with pytest.raises(ValueError, match='must be NAME'):
      prepare.prepare_tfds(config, str(tmp_path), name, 'tfrecord', 1)


@pytest.mark.parametrize(
  ('flags', 'lines', 'message'),
  [
    (['source=json:/no'], 0, "data.source='json:/no' matches no file."),
    (['max_bad_share=0', 'threads=2'], 1, '2 of 150 documents are unreadable'),
  ],
)
def test_errors_are_one_line(corpus, made, tmp_path, flags, lines, message):
  """The error of one process among several is one line too."""
  flags = [f'tokenizer={made}/tokenizer.model', *flags]
  done = subprocess.run(
    command(corpus, tmp_path, *(f'--config.data.{flag}' for flag in flags)),
    cwd=REPOSITORY, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 1
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith(f'Error: {message}')
  assert done.stdout.count('\n') == lines


@pytest.mark.parametrize(
  ('flags', 'name'),
  [
    ([], '00000-of-00003.array_record'),
    (['--tfds=c4'], 'c4/1.0.0/c4-train.array_record-00000-of-00003'),
    (
      ['--tfds=c4', '--format=tfrecord'],
      'c4/1.0.0/c4-train.tfrecord-00000-of-00003',
    ),
  ],
)
def test_a_full_disk(corpus, tmp_path, flags, name):
  """One line names the file, and no part of the file is left."""
  flags = ['--config.data.tokenizer_kind=bytes', '--jobs=1', *flags]
  done = runs.run(command(corpus, tmp_path, *flags), largest=20_000)
  assert done.returncode == 1
  (line,) = done.stderr.strip().splitlines()
  path = tmp_path / name
  assert line.startswith(f'Error: {path} cannot be made: ')
  assert 'File too large' in line
  assert not list(path.parent.glob('*.partial*'))


def test_other_files_in_the_folder_stay(corpus, made, tmp_path):
  mine = tmp_path / 'thesis.partial.doc'
  mine.write_text('mine')
  tokenizer = f'--config.data.tokenizer={made}/tokenizer.model'
  done = subprocess.run(
    command(corpus, tmp_path, tokenizer), cwd=REPOSITORY, check=False,
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert mine.read_text() == 'mine'
  names = [n for n in os.listdir(tmp_path) if n.endswith('.array_record')]
  ours = tmp_path / f'{names[0]}.partial-1'
  ours.write_text('half')
  subprocess.run(
    command(corpus, tmp_path, tokenizer), cwd=REPOSITORY, check=True,
    capture_output=True,
  )  # fmt: skip
  assert not ours.exists()
  assert mine.read_text() == 'mine'
