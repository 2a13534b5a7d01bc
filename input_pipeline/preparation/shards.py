"""Shards: several machines that fill one folder, each with files of its own.

Shard I of N makes every N-th file. Until all are made, the folder has

  shards.json               what all shards must agree on, and N
  manifest.I-of-N.json      the finished files of shard I

Each file has one writer and is written whole. The shard that finds all files
made writes manifest.json, the same as one machine does, and removes these.
"""

import contextlib
import dataclasses
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from input_pipeline.sources import locks, manifest, paths
from input_pipeline.streams import fingerprints

# What names of unfinished files end with: no two processes of all machines that
# share the disk have the same.
OWN = f'-{socket.gethostname()}-{os.getpid()}'
Manifest = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Shard:
  """One of `count` shards. `first`: files of the folders before this one."""

  index: int = 0
  count: int = 1
  first: int = 0

  def __str__(self) -> str:
    return f'{self.index}/{self.count}'

  @property
  def name(self) -> str:
    """The name of its manifest."""
    if self.count == 1:
      return manifest.MANIFEST
    return manifest.shard_name(self.index, self.count)

  def own(self, names: list[str]) -> list[str]:
    """Those of a folder's files that this shard makes."""
    return manifest.of_shard(names, self.index, self.count, self.first)

  def after(self, files: int) -> 'Shard':
    """The shard, for the folder that follows one of so many files."""
    return dataclasses.replace(self, first=self.first + files)


ALL = Shard()  # one machine, which makes all files


def parse(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
  """The shard of the flag --shard: I/N, auto, or '' for all files.

  auto counts the tasks of a SLURM array and the processes that srun starts in
  each, or else the workers of a TPU slice. Raises ValueError, which says what
  is wrong.
  """
  if not text:
    return ALL
  where = f'--shard={text}'
  if text == 'auto':
    return _automatic(where, environ)
  found = re.fullmatch(r'(\d+)/(\d+)', text)
  if not found:
    raise ValueError(f'{where} must be I/N, such as 3/16, or auto.')
  index, count = map(int, found.groups())
  if index >= count:
    some = f': {count} shards are 0/{count} to {count - 1}/{count}' * (
      count > 0
    )
    raise ValueError(f'{where}: shards are counted from 0{some}.')
  return Shard(index, count)


def _automatic(where, environ):
  def number(name, default=''):
    value = environ.get(name, default)
    if not value.isdecimal():
      raise ValueError(
        f'{where} reads {name}, which is {value!r}. Give --shard=I/N.'
      )
    return int(value)

  index, count = 0, 0
  if 'SLURM_ARRAY_TASK_ID' in environ:
    count = number('SLURM_ARRAY_TASK_COUNT')
    least, most = map(number, ('SLURM_ARRAY_TASK_MIN', 'SLURM_ARRAY_TASK_MAX'))
    if most - least + 1 != count:
      raise ValueError(
        f'{where}: the array has {count} tasks between {least} and {most}. Give'
        ' --shard=I/N to run some of the shards again.'
      )
    index = number('SLURM_ARRAY_TASK_ID') - least
  if 'SLURM_STEP_NUM_TASKS' in environ:
    tasks = number('SLURM_STEP_NUM_TASKS')
    index = index * tasks + number('SLURM_PROCID')
    count = max(count, 1) * tasks
  if not count and 'TPU_WORKER_ID' in environ:
    names = environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
    index, count = number('TPU_WORKER_ID'), len(names)
  if not index < count:
    raise ValueError(
      f'{where} needs a SLURM array, srun, or the workers of a TPU slice'
      ' (TPU_WORKER_ID and TPU_WORKER_HOSTNAMES). Give --shard=I/N.'
    )
  return Shard(index, count)


@contextlib.contextmanager
def alone(folder: str, shard: Shard) -> Iterator[None]:
  """Makes this the only process that makes these files, or raises ValueError.

  Other shards of the same number may run. Nothing is locked in a remote folder:
  a shard that runs twice there makes the same bytes twice.
  """
  if paths.is_remote(folder):
    yield
    return
  paths.make_folder(folder)
  own = f'.prepare.{shard.index}-of-{shard.count}.lock'

  def hold(name):
    try:
      return locks.hold(os.path.join(folder, name))
    except locks.HeldError as error:
      raise ValueError(
        f'--out={folder}: another process prepares these files ({error}). Wait'
        ' for it, or end it.'
      ) from None

  held = hold(own)
  try:
    for name in os.listdir(folder):
      other = re.fullmatch(r'\.prepare\.\d+-of-(\d+)\.lock', name)
      if other and other[1] != str(shard.count):
        with hold(name) or contextlib.nullcontext():
          _remove(folder, name)
    yield
  finally:
    _remove(folder, own)
    if held:
      held.close()


def begin(folder: str, fresh: Manifest, shard: Shard) -> Manifest:
  """`fresh`, with the entries of the shard's files that are made already.

  Damaged files are left out. Raises ValueError if the folder was begun with
  other sources or facts, or for another number of shards.
  """
  where = f'--out={folder}'

  def read(name):
    return _read(folder, name, where)

  whole, plan = read(manifest.MANIFEST), read(manifest.PLAN)
  found = [whole, plan]
  if plan:
    count, first = plan['shards'], plan['first']
    found += [read(Shard(n, count).name) for n in range(count)]
  found = [one for one in found if one]
  for old in found:
    _check(where, old, fresh)
  if shard.count > 1 and not finished(whole):
    if not plan:
      _create(folder, fresh | {'shards': shard.count, 'first': shard.first})
      plan = read(manifest.PLAN)  # another shard may have been faster
      _check(where, plan, fresh)
      count, first = plan['shards'], plan['first']
    if count != shard.count:
      raise ValueError(
        f'--shard={shard}: {folder} was begun with {count} shards. Go on with'
        f' --shard=0/{count} to {count - 1}/{count}, or without --shard, which'
        ' makes all that is missing.'
      )
    if first != shard.first:
      raise ValueError(
        f'{where} was begun as another part of a mixture. Take another --out,'
        ' or remove it to begin again.'
      )
  files = {}
  for old in found:
    files |= old['files']
  files = {
    name: files[name] for name in shard.own(fresh['names']) if name in files
  }
  for file, reason in manifest.damaged(folder, files, 'sha256'):
    print(f'{reason}: it is rebuilt.', flush=True)
    del files[file]
  return fresh | {'files': files}


def note(folder: str, made: Manifest, shard: Shard) -> None:
  """Writes down the finished files of a shard, or of the whole folder."""
  if shard.count == 1:
    manifest.write_manifest(folder, made, OWN)
  elif not finished(_read(folder, manifest.MANIFEST, folder)):
    part = {'shards': shard.count, 'first': shard.first}
    manifest.write_manifest(folder, made | part, OWN, shard.name)


def end(folder: str, made: Manifest, shard: Shard) -> Manifest | None:
  """The finished manifest, once all shards have made their files; else None.

  Raises ValueError if a rebuilt file has other bytes than it had.
  """
  where = f'--out={folder}'
  names = made['names']
  if shard.count > 1:
    files = _union(folder, made, shard)
    whole = _read(folder, manifest.MANIFEST, where)
    if finished(whole):  # before, or by another shard meanwhile
      other = [n for n, e in made['files'].items() if whole['files'][n] != e]
      if other:
        raise ValueError(
          f'{where}: rebuilt with other bytes than before: {", ".join(other)}.'
          ' Is array_record of another version? Run the command without'
          ' --shard.'
        )
      made = whole
    elif len(files) < len(names):
      return None
    else:
      made = made | {'files': {name: files[name] for name in names}}
      manifest.write_manifest(folder, made, OWN)
  count = (_read(folder, manifest.PLAN, where) or {}).get('shards', 0)
  for number in range(count):
    _remove(folder, Shard(number, count).name)
  if count:
    _remove(folder, manifest.PLAN)
  return made


def _union(folder, made, shard):
  """The entries of all shards' finished files."""
  files = {}
  for number in range(shard.count):
    other = dataclasses.replace(shard, index=number)
    if other.own(made['names']):
      where = f'--out={folder}'
      part = _read(folder, other.name, where)
      if part:
        _check(where, part, made)
        files |= part['files']
  return files


def finished(made: Manifest | None) -> bool:
  """Whether a manifest has all files."""
  return made is not None and len(made['files']) == len(made['names'])


def _check(where, old, fresh):
  """Raises ValueError unless two manifests say the same but for the files."""
  neither = {'files': {}, 'shards': 0, 'first': 0}
  changed = fingerprints.changes(old | neither, fresh | neither)
  if changed:
    raise ValueError(
      f'{where} was begun with another source, tokenizer or config:\n  '
      + '\n  '.join(changed)
      + '\nTake another --out, or remove it to begin again.'
      + ' Shards need the same files, flags and versions on all machines.'
      * ('shards' in old)
    )


def _read(folder, name, where):
  """A manifest, or None if there is none."""
  path = os.path.join(folder, name)
  if not paths.exists(path):
    return None
  try:
    return manifest.read_manifest(folder, where, name)
  except ValueError:
    if paths.exists(path):
      raise
    return None  # the last shard has just removed it


def _create(folder, plan):
  """Writes shards.json unless another shard has written it meanwhile."""
  data = manifest.serialized(plan)
  paths.create(os.path.join(folder, manifest.PLAN), data, OWN)


def _remove(folder, name):
  with contextlib.suppress(OSError):
    paths.remove(os.path.join(folder, name))
