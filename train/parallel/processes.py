"""Several processes of one run: how they meet, agree and stop together."""

import contextlib
import itertools
import json
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from configs.commands.command import UserError
from configs.differences import changed_keys
from input_pipeline.sources.hashes import sha256
from train.parallel import compilation

T = TypeVar('T')


def define_flags() -> None:
  """Defines the flags that `join` reads, for programs that run on a mesh."""
  flags.disclaim_key_flags()  # --help shows them as flags of the program
  flags.DEFINE_string(
    'coordinator', '', 'HOST:PORT of process 0 of several, or auto.'
  )
  flags.DEFINE_integer('processes', None, 'How many there are.')
  flags.DEFINE_integer('process', None, 'Which one this is, from 0.')
  flags.DEFINE_bool(
    'compilation_cache', True,
    'Keep compiled programs for later starts, in $JAX_COMPILATION_CACHE_DIR or '
    "the user's cache folder.",
  )  # fmt: skip


def join() -> None:
  """Connects this process with the others; keeps compiled programs.

  Raises ValueError if flags do not go together.
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
  """Waits until all processes have called this; `what` names the place."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def everywhere(truth: bool) -> bool:
  """Whether `truth` holds in all processes; each of them must call this."""
  if jax.process_count() == 1:
    return truth
  return bool(multihost_utils.process_allgather(np.array(truth)).all())


def of_first(value: Any) -> np.ndarray:
  """The first process's value, numbers of the same shape in all of them.

  What only it has on its disk must not part them: they compute together.
  """
  if jax.process_count() == 1:
    return np.asarray(value)
  return multihost_utils.broadcast_one_to_all(np.asarray(value))


def check_alike(what: str, value: dict, advice: str) -> None:
  """Raises UserError unless all processes have the same value, JSON-able.

  The message names the value, in the plural, lists the processes that differ,
  and the keys in each, and gives the user advice.
  """
  if jax.process_count() == 1:
    return
  text = json.dumps(value, sort_keys=True).encode()
  digest = np.frombuffer(bytes.fromhex(sha256(text)), np.uint8)
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
    f'{what}. The keys that differ from process 0:\n'
    + '\n'.join(lines)
    + f'\n{advice}'
  )


class AskedToStopError(Exception):
  """The user asked to stop, and the work under way was abandoned."""


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], bool]]:
  """Yields a function that returns whether the user asked to stop.

  One process listens for SIGTERM and Ctrl-C. Several listen for a preemption
  notice to any of them; they must all call the function equally often, and all
  get the same answers.
  """
  if jax.process_count() > 1:
    # The processes agree on the number of the call to stop after.
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
  """The items; raises AskedToStopError if more are wanted after a request."""
  for item in items:
    if asked():
      raise AskedToStopError
    yield item
