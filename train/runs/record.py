"""What made a checkpoint, for its metadata: versions, commit, command, time."""

import datetime
import pathlib
import platform
import shlex
import subprocess
import sys
from importlib import metadata

import jax

PACKAGES = (
  'treeline-lm',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'ml-collections',
  'tensorflow',
  'tensorflow-cpu',  # its name on Linux
  'sentencepiece',
  'tokenizers',
)


def made_by() -> dict:
  """JSON-able: what this process is, to be saved with what it makes."""
  return {
    'command': shlex.join(sys.orig_argv),
    'commit': _commit(),
    'versions': {'python': platform.python_version()} | _versions(),
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'processes': jax.process_count(),
    'time': now(),
  }


def now() -> str:
  """The time, as ISO 8601 has it, in UTC."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')


def _versions():
  found = {}
  for name in PACKAGES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found


def _commit():
  """Of the repository this file lies in; '' where it lies in none.

  '+changes' where tracked files differ from the commit.
  """
  root = pathlib.Path(__file__).parents[2]
  if not (root / '.git').exists():
    return ''

  def git(*arguments):
    return subprocess.run(
      ['git', '-C', root, *arguments],
      capture_output=True, text=True, timeout=20, check=True,
    ).stdout.strip()  # fmt: skip

  try:
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD') + '+changes' * bool(changed)
  except (OSError, subprocess.SubprocessError):
    return ''
