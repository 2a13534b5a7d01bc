"""What a program is made of: source files, packages, environment, commit."""

import contextlib
import functools
import os
import pathlib
import platform
import subprocess
from importlib import metadata

from input_pipeline.sources.hashes import hash_bytes

ROOT = pathlib.Path(__file__).parents[2]
OURS = 'configs', 'input_pipeline', 'models', 'train'
PACKAGES = (  # whose versions are recorded; tensorflow-cpu: its name on Linux
  *('treeline-lm', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint'),
  *('numpy', 'ml-collections', 'tensorflow', 'tensorflow-cpu'),
  *('sentencepiece', 'tokenizers'),
)
# Packages that change what is compiled, but not what a checkpoint needs.
COMPILERS = 'libtpu', 'jax-cuda12-plugin', 'jax-cuda13-plugin'
# Variables that change what is compiled or computed.
VARIABLES = (
  *('LIBTPU_INIT_ARGS', 'JAX_PLATFORMS', 'JAX_ENABLE_X64'),
  *('JAX_DEFAULT_MATMUL_PRECISION', 'JAX_DEFAULT_PRNG_IMPL'),
  *('JAX_THREEFRY_PARTITIONABLE', 'JAX_DISABLE_JIT'),
)
# Words of XLA_FLAGS that do not: they say how many devices a CPU counts as,
# which is compared by itself, and where to write dumps.
_NEUTRAL = '--xla_force_host_platform_device_count', '--xla_dump'


def versions() -> dict[str, str]:
  """The versions of Python and of PACKAGES, as far as they are installed."""
  return {'python': platform.python_version(), **_versions(PACKAGES)}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
  found = {}
  for name in names:
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[name] = metadata.version(name)
  return found


@functools.cache
def commit() -> str:
  """The commit of this file's repository; '' if it is in none.

  '+changes' follows if tracked files differ from the commit.
  """
  if not (ROOT / '.git').exists():
    return ''

  def git(*arguments):
    return subprocess.run(
      ['git', '-C', ROOT, *arguments],
      capture_output=True, text=True, timeout=20, check=True,
    ).stdout.strip()  # fmt: skip

  try:
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD') + '+changes' * bool(changed)
  except (OSError, subprocess.SubprocessError):
    return ''


def described() -> dict[str, dict[str, str]]:
  """All that must be alike on the hosts of a run, in groups, as JSON.

  `files` has a hash of each source file of ours. Of Python's version two
  numbers count. The `commit` only names the files.
  """
  found = versions() | _versions(COMPILERS)
  # The same files are installed under other names or by an older number.
  del found['python']
  found.pop('treeline-lm', None)
  if 'tensorflow-cpu' in found:
    found['tensorflow'] = found.pop('tensorflow-cpu')
  python = '.'.join(platform.python_version_tuple()[:2])
  variables = {x: os.environ[x] for x in VARIABLES if os.environ.get(x)}
  words = os.environ.get('XLA_FLAGS', '').split()
  flags = ' '.join(sorted(x for x in words if not x.startswith(_NEUTRAL)))
  if flags:
    variables['XLA_FLAGS'] = flags
  return {
    'files': _files(),
    'versions': found | {'Python': python},
    'variables': variables,
    'commit': {'commit': commit()},
  }


def _files() -> dict[str, str]:
  """Path of each Python file of ours -> the first digits of its hash."""
  return {
    path.relative_to(ROOT).as_posix(): hash_bytes(path.read_bytes())
    for name in OURS
    for path in sorted((ROOT / name).rglob('*.py'))
  }
