"""input_pipeline.prepare --shard: several machines make what one makes."""

import os
import re
import shutil
import signal
import sys
import time

import pytest

from input_pipeline import prepare
from input_pipeline.preparation import shards
from input_pipeline.preparation.shards import Shard
from input_pipeline.sources import locks, manifest, opening
from input_pipeline.sources.cache import TokenCache
from tests.helpers import buckets, caches, runs
from tests.helpers.caches import contents, settings
from tests.helpers.corpora import VOCABULARY


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Nine files: three times those of caches.write_corpus."""
  folder = caches.write_corpus(tmp_path_factory.mktemp('corpus'))
  for file in range(3):
    for again in (1, 2):
      shutil.copy(folder / f'{file}.json.gz', folder / f'{again}{file}.json.gz')
  return folder


@pytest.fixture(scope='module')
def config(corpus):
  """Two sources and a split for evaluation."""
  return settings(
    '',
    data__tokenizer_kind='bytes',
    data__mixture=(
      (f'json:{corpus}/[12]?.json.gz', 0.5), (f'json:{corpus}/0.json.gz', 0.5),
    ),
    eval__source=f'json:{corpus}/[12].json.gz',
  )  # fmt: skip


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  assert len(prepare.prepare(config, str(folder), jobs=1)) == 3
  return contents(folder)


def sharded(config, folder, number, count=3):
  return prepare.prepare(config, str(folder), 1, Shard(number, count))


def test_the_flag():
  slurm = {
    'SLURM_ARRAY_TASK_ID': '7', 'SLURM_ARRAY_TASK_COUNT': '16',
    'SLURM_ARRAY_TASK_MIN': '4', 'SLURM_ARRAY_TASK_MAX': '19',
  }  # fmt: skip
  step = {'SLURM_STEP_NUM_TASKS': '4', 'SLURM_PROCID': '1'}
  tpu = {'TPU_WORKER_ID': '2', 'TPU_WORKER_HOSTNAMES': 'a,b,c,d'}
  for text, environ, found in (
    ('', {}, '0/1'),
    ('0/16', slurm, '0/16'),
    ('3/16', {}, '3/16'),
    ('auto', slurm, '3/16'),
    ('auto', step, '1/4'),
    ('auto', slurm | step, '13/64'),
    ('auto', tpu, '2/4'),
  ):
    assert str(shards.parse(text, environ)) == found
  some = slurm | {'SLURM_ARRAY_TASK_COUNT': '2'}
  for text, environ, message in (
    ('16/16', {}, 'counted from 0: 16 shards are 0/16 to 15/16'),
    ('17/16', {}, 'counted from 0'),
    ('0/0', {}, 'counted from 0'),
    ('3', {}, 'must be I/N'),
    ('-1/4', {}, 'must be I/N'),
    ('auto', {}, 'needs a SLURM array, srun, or the workers'),
    ('auto', {'SLURM_PROCID': '0', 'SLURM_NTASKS': '4'}, 'needs a SLURM'),
    ('auto', some, '2 tasks between 4 and 19. Give --shard=I/N'),
    ('auto', tpu | {'TPU_WORKER_ID': 'x'}, "TPU_WORKER_ID, which is 'x'"),
  ):
    with pytest.raises(ValueError, match=re.escape(message)):
      shards.parse(text, environ)


def test_every_file_has_one_shard():
  """Also in folders of few files, which several shards share out."""
  for count in (1, 3, 16):
    names, first, load = [], 0, [0] * count
    for files in (1, 1, 5, 40, 2, 1):
      names = [str(n) for n in range(files)]
      parts = [Shard(n, count, first).own(names) for n in range(count)]
      assert sorted(sum(parts, [])) == sorted(names)
      load = [a + len(b) for a, b in zip(load, parts, strict=True)]
      first = Shard(0, count, first).after(files).first
    assert max(load) - min(load) <= 1


def test_any_order(config, whole, tmp_path, capsys):
  """Of three shards the last to end writes the manifests."""
  assert sharded(config, tmp_path, 2) == []
  assert sharded(config, tmp_path, 0) == []
  shown = capsys.readouterr().out
  assert '/0, shard 0/3: 2 files' in shown
  with pytest.raises(ValueError, match=r'--shard=1/3: 2 missing, 00001-of-0'):
    TokenCache(str(tmp_path / '0'))
  assert sharded(config, tmp_path, 0) == []  # again: nothing to do
  assert sharded(config, tmp_path, 1) == [
    f'cache:{tmp_path}/{name}' for name in ('0', '1', 'validation')
  ]
  assert contents(tmp_path) == whole
  assert len(sharded(config, tmp_path, 1, 7)) == 3  # it is finished
  assert contents(tmp_path) == whole


def test_one_machine_finishes_what_shards_began(config, whole, tmp_path):
  sharded(config, tmp_path, 1)
  before = (tmp_path / '0/00001-of-00006.array_record').stat().st_mtime_ns
  assert len(prepare.prepare(config, str(tmp_path), 1)) == 3
  assert contents(tmp_path) == whole
  after = (tmp_path / '0/00001-of-00006.array_record').stat().st_mtime_ns
  assert after == before  # made by the shard, and kept


def test_shards_finish_what_one_machine_began(config, whole, tmp_path):
  prepare.prepare(config, str(tmp_path), 1)
  known = manifest.read_manifest(str(tmp_path / '0'), '')
  del known['files']['00004-of-00006.array_record']
  manifest.write_manifest(str(tmp_path / '0'), known)
  assert [len(sharded(config, tmp_path, n)) for n in range(3)] == [0, 0, 3]
  assert contents(tmp_path) == whole


def test_refused(config, corpus, tmp_path):
  config = config.copy_and_resolve_references()
  config.data.tokenizer_kind = 'unigram'
  sharded(config, tmp_path, 1)
  with pytest.raises(
    ValueError, match=r'--shard=1/4: .* was begun with 3 shards. Go on with'
  ):
    sharded(config, tmp_path, 1, 4)
  other = settings(f'json:{corpus}/0.json.gz')
  with pytest.raises(ValueError, match='was begun with another source'):
    prepare.prepare(other, str(tmp_path / '0'), 1, Shard(0, 3))
  # Another machine trains another tokenizer.
  (tmp_path / '0/tokenizer.model').unlink()
  config.model.vocab_size -= 3
  with pytest.raises(ValueError, match=r'(?s)tokenizer: .*versions on all'):
    sharded(config, tmp_path, 2)


def test_a_shard_runs_once_at_a_time(config, tmp_path):
  held = locks.hold(str(tmp_path / '.prepare.1-of-3.lock'))
  with held:
    for shard in (Shard(1, 3), Shard(1, 4), shards.ALL):
      with pytest.raises(ValueError, match=f'process {os.getpid()} on '):
        prepare.prepare(config, str(tmp_path), 1, shard)
    with shards.alone(str(tmp_path), Shard(2, 3)):
      pass
  with shards.alone(str(tmp_path), Shard(1, 3)):  # a killed one's is taken
    assert len(os.listdir(tmp_path)) == 1
  assert os.listdir(tmp_path) == []


def test_damage(config, whole, tmp_path):
  """On a finished cache a shard rebuilds its own damaged files."""
  prepare.prepare(config, str(tmp_path), 1)
  path = tmp_path / '0/00001-of-00006.array_record'
  path.write_bytes(b'x' * path.stat().st_size)
  sharded(config, tmp_path, 0)
  assert contents(tmp_path) != whole
  sharded(config, tmp_path, 1)
  assert contents(tmp_path) == whole


def test_a_dataset(corpus, tmp_path, monkeypatch):
  pytest.importorskip('tensorflow_datasets')
  config = settings(
    f'json:{corpus}/??.json.gz', eval__source=f'json:{corpus}/1.json.gz'
  )
  arguments = 'c4/en:3.1.0', 'tfrecord', 1
  prepare.prepare_tfds(config, str(tmp_path / 'whole'), *arguments)
  out = tmp_path / 'parts'
  assert not prepare.prepare_tfds(config, str(out), *arguments, Shard(1, 2))
  monkeypatch.setenv('TFDS_DATA_DIR', str(out))
  with pytest.raises(ValueError, match='--shard=0/2: 4 missing, c4-train'):
    opening.open_source('tfds:c4/en', 0, 0, 0)
  assert prepare.prepare_tfds(config, str(out), *arguments, Shard(0, 2))
  assert contents(out) == contents(tmp_path / 'whole')


def command(corpus, out, *flags):
  return [
    *(sys.executable, '-m', 'input_pipeline.prepare', '--jobs=1'),
    '--config=configs/t5.py:tiny', f'--out={out}',
    f'--config.data.source=json:{corpus}/*.json.gz',
    f'--config.model.vocab_size={VOCABULARY}', '--config.data.sentinels=40',
    '--config.data.max_bad_share=0.01', *flags,
  ]  # fmt: skip


def wait(process):
  stdout, stderr = process.communicate(timeout=200)
  assert process.returncode == 0, stderr
  return stdout


@pytest.mark.slow
def test_processes_at_once(corpus, tmp_path):
  """Three shards train the same tokenizer; one is killed and runs again."""

  def start(out, *flags):
    return runs.start(command(corpus, tmp_path / out, *flags))

  first = wait(start('whole'))
  together = [start('parts', f'--shard={n}/3') for n in range(3)]
  limit = time.monotonic() + 100
  while time.monotonic() < limit and together[1].poll() is None:
    if list((tmp_path / 'parts').glob('0000[147]*.array_record')):
      break
    time.sleep(0.001)
  together[1].send_signal(signal.SIGKILL)
  together[1].wait()
  for n in (0, 2):
    assert '--shard=1/3: ' in wait(together[n])
  together = [start('parts', '--shard=1/3'), start('parts', '--shard=2/3')]
  shown = [wait(process) for process in together]
  line = first.splitlines()[-1].replace('whole', 'parts')
  assert line.startswith('Train with --config.data.source=cache:')
  assert line in shown[0]
  assert contents(tmp_path / 'parts') == contents(tmp_path / 'whole')
  done = start('parts', '--shard=3/3')
  assert done.communicate(timeout=100)[1].startswith(
    'Error: --shard=3/3: shards are counted from 0'
  )
  assert done.returncode == 1


@pytest.mark.slow
def test_in_a_bucket(corpus, tmp_path):
  """The folder that the machines share is in gs://."""
  flags = ['--config.data.tokenizer_kind=bytes']
  wait(runs.start(command(corpus, tmp_path / 'whole', *flags)))
  with buckets.emulated(tmp_path) as bucket:
    place = f'gs://{buckets.BUCKET}/parts'
    together = [
      runs.start(command(corpus, place, *flags, f'--shard={number}/2'))
      for number in range(2)
    ]
    shown = [wait(process) for process in together]
    assert any(f'source=cache:{place}' in text for text in shown)
    assert bucket.contents('parts') == contents(tmp_path / 'whole')
    done = runs.start(command(corpus, place, *flags, '--shard=1/2'))
    assert '4 of 4 files are there already.' in wait(done)
