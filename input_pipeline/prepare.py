"""Prepares a config's source once, so that training reads it fast.

  python -m input_pipeline.prepare --config=configs/t5.py:base --out=DIR
  python -m train --config=configs/t5.py:base --config.data.source=cache:DIR \\
    --workdir=W

DIR becomes a token cache (see sources/cache.py), which gives the same rows as
the source. A data.mixture makes a cache of each source, DIR/0, DIR/1 and so on.
The split for evaluation, from eval.source or a tfds source, is DIR/validation.

  python -m input_pipeline.prepare --config=configs/t5.py:base --out=DIR \\
    --tfds=c4/en --config.data.source='json:c4-train.*.json.gz' \\
    --config.eval.source='json:c4-validation.*.json.gz'

makes a dataset of the text instead, for tfds:c4/en with TFDS_DATA_DIR=DIR.

--shard=I/N, with I from 0 to N-1, makes every N-th file: N machines that share
DIR make one cache or dataset, the same as one machine makes. They may start and
end in any order, and again after a kill.

After a kill the same command resumes: it keeps finished files and starts others
again. On a finished folder it checks every byte and rebuilds what is damaged.
input_pipeline/README.md has sizes and times.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import dataclasses
import os
import tempfile

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import command, interrupt
from input_pipeline import tokenizing
from input_pipeline.config import data_config
from input_pipeline.preparation import shards, writers
from input_pipeline.preparation.fill import fill
from input_pipeline.sources import cache, files, hashes, opening, paths
from input_pipeline.sources.manifest import (
  MANIFEST,
  PLAN,
  read_manifest,
  tokenizer_path,
)


def prepare(
  config: ConfigDict, out: str, jobs: int = 0, shard: shards.Shard = shards.ALL
) -> list[str]:
  """Makes token caches of all sources of a config, in `out` and below.

  Returns the names of the caches, the evaluation split's last; none of them
  while other shards have files to make. `jobs` is the most processes; 0:
  data.threads or all cores. Raises ValueError when a folder was begun with
  another tokenizer or source, or another process makes the same files.
  """
  data = data_config(config)
  for key, name, _ in data.sources:
    if _has_tokens(name):
      raise ValueError(f'{key}={name!r} needs no preparation: train on it.')
  parts = [
    (key, name, os.path.join(out, str(n)) if data.mixture else out)
    for n, (key, name, _) in enumerate(data.sources)
  ]
  jobs = jobs or data.workers
  made, unfinished = [], []
  with tempfile.TemporaryDirectory() as folder, shards.alone(out, shard):
    if not data.tokenizer:
      data = dataclasses.replace(data, tokenizer=_kept_tokenizer(parts[0][2]))
    arguments = config.seed, config.model.vocab_size
    try:
      tokenizer = tokenizing.prepare(data, *arguments, folder)
    except OSError as error:
      if error.filename is None or not error.filename.startswith(folder):
        raise
      raise OSError(
        f'{error.filename}, a temporary file, cannot be written: make room'
        ' there, or name another folder in TMPDIR.'
      ) from error
    data = dataclasses.replace(data, tokenizer='')  # it is in the folder

    def fill_one(key, name, place):
      nonlocal shard
      source = opening.open_source(
        name, *arguments, data.sentinels, key, data.text_field
      )
      job = writers.Tokens(key, name, data, *arguments, folder)
      count = len(source.files)
      names = [f'{n:05d}-of-{count:05d}.array_record' for n in range(count)]
      print(f'{key}={name!r} -> {place}', flush=True)
      whole = fill(
        place, names, job, jobs, [source], tokenizer=tokenizer.fingerprint,
        sentences=data.sentences, dtype=cache.id_type(tokenizer.size),
        copied=folder, shard=shard,
      )  # fmt: skip
      (made if whole else unfinished).append(f'cache:{place}')
      shard = shard.after(count)
      return source

    evaluated = [('eval.source', config.eval.source, out)]
    for part in parts:
      source = fill_one(*part)
      if source.validation and not config.eval.source:
        evaluated.append(('eval.source', source.validation, part[2]))
    for key, name, place in evaluated:
      if name and not _has_tokens(name):
        fill_one(key, name, os.path.join(place, cache.VALIDATION))
  return [] if unfinished else made


def _has_tokens(name):
  return name == 'synthetic' or name.startswith('cache:')


def _kept_tokenizer(folder):
  """The tokenizer of a cache that was begun; '' if missing or damaged."""
  for file in MANIFEST, PLAN:
    if paths.exists(os.path.join(folder, file)):
      manifest = read_manifest(folder, f'--out={folder}', file)
      break
  else:
    return ''
  path = tokenizer_path(folder, manifest)
  (known,) = manifest['beside'].values()
  whole = paths.exists(path) and hashes.hash_bytes(paths.read(path)) == known
  return path if whole else ''


def prepare_tfds(
  config: ConfigDict,
  out: str,
  name: str,
  suffix: str,
  jobs: int = 0,
  shard: shards.Shard = shards.ALL,
) -> str:
  """Makes a dataset for tfds:NAME of data.source and eval.source.

  Returns its folder in `out`; '' while other shards have files to make.
  `suffix` is array_record or tfrecord. Raises ValueError when the sources are
  not of JSON, or another process makes the same files.
  """
  from input_pipeline.preparation import tfds_writer

  data = data_config(config)
  if data.mixture:
    raise ValueError('--tfds makes a dataset of data.source, not of a mixture.')
  place, dataset = tfds_writer.folder(out, name)
  arguments = config.seed, config.model.vocab_size, data.sentinels
  splits = {'train': ('data.source', data.source)}
  if config.eval.source:
    splits['validation'] = ('eval.source', config.eval.source)
  opened = {}
  for split, (key, given) in splits.items():
    source = opening.open_source(given, *arguments, key, data.text_field)
    if not isinstance(source, files.JsonFiles):
      raise ValueError(
        f'{key}={given!r}: --tfds makes a dataset of json: files.'
      )
    opened[split] = source
  names = [
    f'{dataset}-{split}.{suffix}-{n:05d}-of-{len(source.files):05d}'
    for split, source in opened.items()
    for n in range(len(source.files))
  ]
  print(f'{", ".join(s for _, s in splits.values())} -> {place}', flush=True)
  job = writers.Examples(data, list(splits.values()), suffix)
  with shards.alone(place, shard):
    manifest = fill(
      place, names, job, jobs or data.workers, list(opened.values()),
      shard=shard, dataset=name, suffix=suffix,
    )  # fmt: skip
    if manifest is None:
      return ''
    tfds_writer.describe(place, name, dataset, suffix, opened, manifest)
  return place


def main() -> None:
  """The command."""
  if not _OUT.value:
    raise ValueError('Give --out=DIR, where the prepared files go.')
  if _JOBS.value < 0:
    raise ValueError(f'--jobs={_JOBS.value} must be 0 (all cores) or more.')
  out = os.path.expanduser(_OUT.value).rstrip('/')
  if os.path.isfile(out):
    raise ValueError(f'--out={out} is a file: name a folder.')
  if flags.FLAGS['format'].present and not _TFDS.value:
    raise ValueError(
      f'--format={_FORMAT.value} is for datasets: give --tfds=NAME too.'
    )
  config, name = _CONFIG.value, _TFDS.value
  shard = shards.parse(_SHARD.value)
  try:
    if name:
      made = prepare_tfds(config, out, name, _FORMAT.value, _JOBS.value, shard)
    else:
      made = prepare(config, out, _JOBS.value, shard)
  except KeyboardInterrupt:
    interrupt.end(
      'Interrupted. Run the same command again to resume: it keeps the finished'
      ' files.'
    )
  if not made:
    return  # other shards have files to make
  if name:
    name = name.partition(':')[0]
    print(f'Train with TFDS_DATA_DIR={out} --config.data.source=tfds:{name}')
    return
  key, value, own = 'source', made[0], "''"  # the split is in the cache
  if config.data.mixture:
    rates = [rate for _, rate in config.data.mixture]
    key, value = 'mixture', f'"{tuple(zip(made, rates, strict=False))}"'
    own = f'cache:{out}/{cache.VALIDATION}'
  evaluated = config.eval.source
  moved = evaluated and not evaluated.startswith('cache:')
  flag = f' --config.eval.source={own}' if moved else ''
  print(f'Train with --config.data.{key}={value}{flag}')


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]'
  )
  _OUT = flags.DEFINE_string('out', None, 'The folder to fill; gs:// too.')
  _JOBS = flags.DEFINE_integer(
    'jobs', 0, 'Processes, at most one a file; 0: data.threads, or all cores.'
  )
  _TFDS = flags.DEFINE_string(
    'tfds', '', 'NAME[/CONFIG][:VERSION]: make this dataset, not a token cache.'
  )
  _FORMAT = flags.DEFINE_enum(
    'format', 'array_record', ['array_record', 'tfrecord'], 'Of the dataset.'
  )
  _SHARD = flags.DEFINE_string(
    'shard', '', 'I/N, I from 0 to N-1: make every N-th file, on one of N'
    ' machines. auto: from SLURM, or the workers of a TPU slice.',
  )  # fmt: skip
  flags.mark_flag_as_required('config')
  command.run(main)
