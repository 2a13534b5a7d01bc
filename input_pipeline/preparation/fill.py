"""Filling a folder with files that are made once, by several processes.

The folder's manifest gets an entry when a file is finished, and a file gets its
name when all of it is written. So a killed program can resume.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from typing import Any

from configs.commands import command, terminal
from input_pipeline.preparation import shards
from input_pipeline.preparation.writers import Examples, Tokens
from input_pipeline.sources import hashes, manifest, paths
from input_pipeline.sources.files import Source

PAUSE = 30  # seconds between lines of progress where there is no terminal


def fill(
  folder: str,
  names: list[str],
  job: Tokens | Examples,
  jobs: int,
  opened: list[Source],
  copied: str | None = None,
  shard: shards.Shard = shards.ALL,
  **facts: Any,
) -> dict[str, Any] | None:
  """Fills a folder with the files `names`; returns the finished manifest.

  The folder may be remote, and have finished files. `job` makes a file; see
  writers. There are at most `jobs` processes. `opened` are the sources. The
  files of the folder `copied` are put beside the made ones. Of the files only
  those of `shard` are made: None is returned while other shards have files to
  make. `facts` are what else decides the files. Raises ValueError if the folder
  was begun with other sources or facts, or the sources' files have changed
  meanwhile.
  """
  made_of = [source.fingerprint for source in opened]
  copies = os.listdir(copied) if copied else ()
  beside = {n: paths.read(os.path.join(copied, n)) for n in copies}
  fresh = {
    'format': manifest.FORMAT, 'made_of': made_of, 'names': names,
    'beside': {name: hashes.hash_bytes(beside[name]) for name in beside},
    **facts, 'files': {},
  }  # fmt: skip
  own = shard.own(names)
  paths.make_folder(folder)
  made = shards.begin(folder, fresh, shard)
  _remove_partials(folder, [*own, shard.name])
  if shard.count == 1:
    _remove_partials(folder, [*beside, manifest.PLAN])
  shards.note(folder, made, shard)
  for name, data in beside.items():
    paths.write(os.path.join(folder, name), data, shards.OWN)
  done = made['files']
  wanted = {*own} - {*done}
  missing = [n for n, name in enumerate(names) if name in wanted]
  if done:
    print(f'{len(done)} of {len(own)} files are there already.', flush=True)
  if missing:
    workers = min(jobs, len(missing))
    job = dataclasses.replace(job, threads=max(1, jobs // workers))
    progress = _Progress(missing, opened)
    make = _make if workers == 1 else _make_in_process
    with _pool(workers, job, progress.counts) as pool:
      tasks = {
        pool.submit(make, os.path.join(folder, names[n]), n): n for n in missing
      }
      try:
        for task in _finished(tasks, progress):
          done[names[tasks[task]]] = task.result()
          # In the order of the names, not in that of their making.
          made['files'] = done = {n: done[n] for n in names if n in done}
          shards.note(folder, made, shard)
          progress.finished(tasks[task])
      except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
          process.terminate()
        if isinstance(error, concurrent.futures.BrokenExecutor):
          raise command.UserError(
            'A process that prepares was killed: is the memory full? The same'
            ' command resumes and keeps the finished files; --jobs=1 needs the'
            ' least memory.'
          ) from error
        raise
    if [source.fingerprint for source in opened] != made_of:
      raise ValueError(
        f'The files that {folder} is made from changed meanwhile: remove it'
        ' and begin again.'
      )
    progress.end()
  whole = shards.end(folder, made, shard)
  if whole is None:
    _summary(f'{folder}, shard {shard}', made['files'].values())
    print(f'{folder}: {manifest.unfinished(folder)}', flush=True)
  else:
    _summary(folder, whole['files'].values())
  return whole


def _remove_partials(folder, names):
  """Removes what killed programs left of these files."""
  if not paths.is_remote(folder):
    ours = set(names)
    for name in os.listdir(folder):
      if name.rpartition('.partial-')[0] in ours:
        os.remove(os.path.join(folder, name))


def _pool(workers, job, counts):
  """Processes, or a thread where one is enough.

  A sixth of the CPU time holds the interpreter lock (JSON, lines, packing), so
  threads would keep only six cores busy.
  """
  if workers == 1:
    return concurrent.futures.ThreadPoolExecutor(1, '', _start, (job, counts))
  context = multiprocessing.get_context('spawn')
  return concurrent.futures.ProcessPoolExecutor(
    workers, context, _start_process, (job, counts)
  )


def _start_process(job, counts):
  """Makes a worker end with its parent, and leave Ctrl-C to it."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def follow():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()
  _start(job, counts)


def _start(job, counts):
  global _JOB
  _JOB = job, counts
  job.open()


def _make(path, number):
  """Makes a file under another name, then names it; returns its entry."""
  job, counts = _JOB
  partial = f'{path}.partial{shards.OWN}'
  if paths.is_remote(path):
    partial = os.path.join(tempfile.gettempdir(), os.path.basename(partial))

  def count(*added):
    with counts.get_lock():
      for n, more in enumerate(added):
        counts[n] += more

  try:
    facts = job.write(number, partial, count)
    with open(partial, 'rb') as file:
      os.fsync(file.fileno())
    entry = manifest.file_entry(partial) | facts
    paths.move(partial, path)
    return entry
  except OSError as error:
    raise OSError(
      f'{path} cannot be made: {error.strerror or error}. The same command'
      ' resumes and keeps the finished files.'
    ) from error
  finally:
    with contextlib.suppress(OSError):
      os.remove(partial)


def _make_in_process(path, number):
  """_make, whose errors lose their traceback outside of the process."""
  try:
    return _make(path, number)
  except Exception as error:
    if command.is_fixable(error):
      raise command.UserError(command.message(error)) from None
    raise


def _finished(tasks, progress):
  """Tasks as they finish, in order; shows the progress meanwhile."""
  left = set(tasks)
  while left:
    done, left = concurrent.futures.wait(
      left, 1, concurrent.futures.FIRST_COMPLETED
    )
    progress.show()
    yield from (task for task in tasks if task in done)


class _Progress:
  """A live line: documents, tokens, their rates, and the time that is left.

  The time is estimated from the sizes of the source's finished files.
  """

  def __init__(self, missing, opened):
    self.counts = multiprocessing.get_context('spawn').Array('q', 3)
    self.start = self.shown = time.monotonic()
    sizes = [
      size
      for source in opened
      for size in getattr(source, 'lengths', None) or _sizes(source.files)
    ]
    self.sizes = {n: sizes[n] for n in missing}
    self.left = dict(self.sizes)
    self.read = 0  # documents of finished files, roughly
    self.live = terminal.LiveLine()

  def finished(self, number):
    del self.left[number]
    self.read = self.counts[0]

  def show(self):
    now = time.monotonic()
    if now - self.shown >= (0.5 if self.live.live else PAUSE):
      self.shown = now
      self.live.show(self.line())

  def line(self):
    seconds = max(time.monotonic() - self.start, 1e-3)
    documents, tokens, bad = self.counts[:]
    parts = [
      f'{len(self.sizes) - len(self.left)} of {len(self.sizes)} files',
      f'{documents:,} documents ({documents / seconds:,.0f}/s)',
    ]
    if tokens:
      parts.append(f'{tokens:,} tokens ({tokens / seconds:,.0f}/s)')
    if bad:
      parts.append(f'{bad:,} bad')
    done = 1 - sum(self.left.values()) / max(sum(self.sizes.values()), 1)
    if 0 < done < 1:
      # Documents of unfinished files count too.
      whole = self.read / done
      left = seconds * max(whole - documents, 0) / max(documents, 1)
      parts.append(f'{terminal.duration(left)} left')
    return ', '.join(parts)

  def end(self):
    seconds = time.monotonic() - self.start
    self.live.note(f'{self.line()}, in {terminal.duration(seconds)}')


def _sizes(files):
  """Bytes of each file; 1 where a source names no file."""
  return [paths.size(f) if os.path.basename(f) != f else 1 for f in files]


def _summary(folder, files):
  """Prints what a finished folder holds."""
  counts = 'documents', 'bad', 'tokens', 'bytes'
  total = {name: sum(entry.get(name, 0) for entry in files) for name in counts}
  line = f'{folder}: {len(files)} files, {total["documents"]:,} documents'
  if total['tokens']:
    line += f', {total["tokens"]:,} tokens'
  print(f'{line}, {total["bad"]:,} bad, {total["bytes"]:,} bytes', flush=True)
