"""What the compiler is asked for; its cache, which makes later starts quick."""

import contextlib
import functools
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs.commands import terminal
from input_pipeline.sources.hashes import sha256

LIMIT = 4 * 2**30  # bytes that the folder may hold
LEAST = 0.3  # seconds: programs that compile faster are not kept
_BOOLS = {'true': True, 'false': False}
_FUSION = 'xla_tpu_enable_async_collective_fusion'
# What programs on a mesh are compiled with, by platform; of the training step
# `sharding.compiler_options` may have other values. docs/sharding.md has what
# each does.
DEFAULTS = {
  'tpu': {
    # Products that would pass parts of a weight around, in as many turns as
    # there are devices: the slowest programs to compile, and not faster.
    'xla_jf_spmd_threshold_for_windowed_einsum_mib': '1000000',
    # Collectives go on while products are computed.
    'xla_enable_async_all_gather': 'true',
    'xla_tpu_prefer_async_allgather_to_allreduce': 'true',
    'xla_tpu_overlap_compute_collective_tc': 'true',
    _FUSION: 'true',
    f'{_FUSION}_fuse_all_gather': 'true',
    f'{_FUSION}_multiple_steps': 'true',
  }
}


def keep(enabled: bool = True) -> None:
  """Keeps compiled programs in the user's cache folder, and reuses them.

  The folder is $JAX_COMPILATION_CACHE_DIR, or else treeline/compiled in
  $XDG_CACHE_HOME or ~/.cache. If it cannot be written, there is a warning, and
  everything is compiled.
  """
  if not enabled:
    jax.config.update('jax_enable_compilation_cache', False)
    return
  if jax.config.jax_compilation_cache_dir:  # JAX reads its own variable
    return
  folder = default_folder()
  try:
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
    prune(folder, LIMIT)
  except OSError as error:
    terminal.warn(
      f'compiled programs are not kept: {folder}: {error.strerror}. Set '
      'JAX_COMPILATION_CACHE_DIR to a writable folder, or give '
      '--nocompilation_cache.'
    )
    return
  jax.config.update('jax_compilation_cache_dir', folder)
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', LEAST)


def default_folder() -> str:
  """The folder for programs if JAX_COMPILATION_CACHE_DIR is not set.

  Each kind of processor has its own: another's machine code may not run.
  """
  cache = os.environ.get('XDG_CACHE_HOME', '')
  if not os.path.isabs(cache):  # the XDG standard says to ignore it
    cache = os.path.join(os.path.expanduser('~'), '.cache')
  return os.path.join(cache, 'treeline', 'compiled', _processor())


def prune(folder: str, limit: int) -> None:
  """Removes the oldest files until at most `limit` bytes are left."""
  found = []
  for entry in os.scandir(folder):
    with contextlib.suppress(OSError):  # another process may remove them too
      state = entry.stat()
      found.append((state.st_mtime, state.st_size, entry.path))
  total = sum(size for _, size, _ in found)
  for _, size, path in sorted(found):
    if total <= limit:
      return
    with contextlib.suppress(OSError):
      os.remove(path)
    total -= size


def options(given: Sequence[str], platform: str) -> dict[str, str | bool]:
  """`sharding.compiler_options` for a platform: name -> value.

  Options of other platforms are left out. The TPU's compiler reads texts; to
  the others a truth value is one of Python's.

  Raises ValueError for one that is not NAME=VALUE, or is there twice.

  >>> options(('xla_tpu_a=true', 'xla_gpu_b=1', 'xla_c=2'), 'tpu')
  {'xla_tpu_a': 'true', 'xla_c': '2'}
  """
  found = {}
  for text in given:
    name, equals, value = str(text).partition('=')
    if not (equals and name.startswith('xla_') and value):
      raise ValueError(
        f'sharding.compiler_options has {text!r}; it must have texts such as '
        "'xla_tpu_overlap_compute_collective_tc=true'."
      )
    if name in found:
      raise ValueError(f'sharding.compiler_options has {name} twice.')
    found[name] = value if platform == 'tpu' else _BOOLS.get(value, value)
  platform = 'gpu' if platform == 'cuda' else platform
  others = tuple(f'xla_{x}_' for x in {'tpu', 'gpu', 'cpu'} - {platform})
  return {name: x for name, x in found.items() if not name.startswith(others)}


@functools.cache
def known(mesh: Mesh) -> dict[str, str]:
  """DEFAULTS of the mesh's platform: name -> value.

  One that its compiler does not know is left out, with a warning.
  """
  found = dict(DEFAULTS.get(mesh.devices.flat[0].platform, {}))
  place = NamedSharding(mesh, PartitionSpec())
  nothing = jax.ShapeDtypeStruct((), 'float32', sharding=place)
  lowered = jax.jit(lambda x: x, out_shardings=place).lower(nothing)
  while found:
    try:
      lowered.compile(found)
      break
    except jax.errors.JaxRuntimeError as error:
      name = unknown_option(error)
      if name not in found:
        raise
      del found[name]
      terminal.warn(
        f'The compiler here does not know {name}, which Treeline asks for: '
        'steps may be slower than docs/pods.md says.'
      )
  return found


def unknown_option(error: Exception) -> str:
  """The name of the option that a compiler's error is about, or ''."""
  first = str(error).partition('\n')[0]
  return first.partition('No such compile option: ')[2].strip("'")


def jit(function: Callable, mesh: Mesh | None, **how: Any) -> Callable:
  """`jax.jit` with the options that programs on this mesh need."""
  own = {} if mesh is None else known(mesh)
  return jax.jit(function, compiler_options=own or None, **how)


def _processor() -> str:
  """The processor's architecture, and a digest of its features."""
  features = ''
  names = 'flags', 'Features', 'model name'
  with contextlib.suppress(OSError), open('/proc/cpuinfo') as file:
    features = ''.join(sorted({x for x in file if x.startswith(names)}))
  return f'{platform.machine()}-{sha256(features.encode())[:12]}'
