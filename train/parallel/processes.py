"""Several processes of one run: how they find each other and stay together."""

import contextlib
import hashlib
import itertools
import json
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from configs.command import UserError
from configs.differences import changed_keys
from train.parallel import compilation

T = TypeVar('T')


def define_flags() -> None:
  """The flags that `join` reads; a program's --help shows those it adopts.

  All programs that run a model on its mesh have them.
  """
  flags.DEFINE_string(
    'coordinator', '', 'Several processes: HOST:PORT of process 0, or auto.'
  )
  flags.DEFINE_integer('processes', None, 'How many there are.')
  flags.DEFINE_integer('process', None, 'Which one this is, from 0.')
  flags.DEFINE_bool(
    'compilation_cache', True,
    'Keep compiled programs for later starts, in $JAX_COMPILATION_CACHE_DIR or '
    "the user's cache folder.",
  )  # fmt: skip


def join() -> None:
  """Makes this process one of several, where the flags say so.

  What it compiles is kept for later starts, unless they say otherwise.

  Raises:
    ValueError: flags that do not go together.
  """
  values = flags.FLAGS
  compilation.keep(values.compilation_cache)
  if values.coordinator:
    where = None if values.coordinator == 'auto' else values.coordinator
    if where and not where.rpartition(':')[2].isdigit():
      raise ValueError(f'--coordinator={where} must be HOST:PORT, or auto.')
    jax.distributed.initialize(where, values.processes, values.process)
  elif values.processes is not None or values.process is not None:
    raise ValueError('--processes and --process need --coordinator.')


def wait_for_all(what: str) -> None:
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def everywhere(truth: bool) -> bool:
  """Whether it holds in all processes, each of which must ask."""
  if jax.process_count() == 1:
    return truth
  return bool(multihost_utils.process_allgather(np.array(truth)).all())


def check_alike(what: str, value: dict, mend: str) -> None:
  """Makes sure that all processes have the same, JSON-able value.

  Args:
    what: it is of, in the plural: 'configs'.
    value: this process's.
    mend: what the user is told to do.

  Raises:
    UserError: they have not; names the processes and the keys, in each.
  """
  if jax.process_count() == 1:
    return
  text = json.dumps(value, sort_keys=True).encode()
  digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
  digests = multihost_utils.process_allgather(digest)
  if (digests == digests[0]).all():
    return
  sizes = multihost_utils.process_allgather(np.array(len(text)))
  padded = np.frombuffer(text.ljust(sizes.max()), np.uint8)
  texts = multihost_utils.process_allgather(padded)
  values = [json.loads(x.tobytes()) for x in texts]
  lines = [
    f'  process {number}: {", ".join(changed_keys(values[0], other))}'
    for number, other in enumerate(values)
    if other != values[0]
  ]
  raise UserError(
    f'The {len(values)} processes of this run were started with different '
    f'{what}. Other than in process 0 are the keys:\n'
    + '\n'.join(lines)
    + f'\n{mend}'
  )


class AskedToStopError(Exception):
  """What was under way has been left off."""


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
  """Yields whether SIGTERM or Ctrl-C came, as a function that all hosts call
  equally often: all of them hear the same."""
  if jax.process_count() > 1:
    # Any host's preemption notice; hosts agree on the call to stop after.
    calls = itertools.count()
    yield lambda: multihost_utils.reached_preemption_sync_point(next(calls))
    return
  asked = []
  handlers = {
    number: signal.signal(number, lambda *_: asked.append(True))
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield lambda: bool(asked)
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)


def until(asked: Callable[[], bool], items: Iterable[T]) -> Iterator[T]:
  """The items; AskedToStopError where one is wanted after the stop is asked."""
  for item in items:
    if asked():
      raise AskedToStopError
    yield item
