"""Several processes of one run: how they meet, agree and stop together."""

import contextlib
import itertools
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from configs.commands import interrupt
from configs.commands.command import UserError
from train.parallel import (
  cluster,
  compilation,
  meeting,
  preflight,
  software,
  watch,
)
from train.parallel.meeting import AGAIN
from train.parallel.verdicts import PATIENCE
from train.parallel.watch import Watch

T = TypeVar('T')
NEVER = 10**6  # seconds


# This process's part in the watch over all; None: it trains alone, or another
# program has connected it.
_watch: Watch | None = None


def define_flags() -> None:
  """Defines the flags that `join` reads, for programs that run on a mesh."""
  flags.disclaim_key_flags()  # --help shows them as flags of the program
  flags.DEFINE_string(
    'coordinator', '', 'HOST:PORT of process 0 of several, or auto.'
  )
  flags.DEFINE_integer('processes', None, 'How many there are.')
  flags.DEFINE_integer('process', None, 'Which one this is, from 0.')
  flags.DEFINE_integer(
    'join_timeout', 300, 'Seconds that the processes wait for one another.',
    lower_bound=1,
  )  # fmt: skip
  flags.DEFINE_integer(
    'hang_timeout', 100,
    'Seconds that a process may keep the others waiting in a step, '
    f'{PATIENCE} times as many elsewhere; then all end with status {AGAIN}. 0: '
    'no limit.',
    lower_bound=0,
  )  # fmt: skip
  flags.DEFINE_bool(
    'compilation_cache', True,
    'Keep compiled programs for later starts, in $JAX_COMPILATION_CACHE_DIR or '
    "the user's cache folder.",
  )  # fmt: skip


def join() -> None:
  """Connects this process with the others; keeps compiled programs.

  Raises:
    ValueError: flags do not go together.
    UserError: the processes cannot meet or do not match.
    LostError: not all of them have come.
  """
  values = flags.FLAGS
  compilation.keep(values.compilation_cache)
  if values.coordinator:
    _join(*cluster.find(
      values.coordinator, values.processes, values.process, values.join_timeout
    ))  # fmt: skip
  elif values.processes is not None or values.process is not None:
    raise ValueError('--processes and --process need --coordinator.')


def _join(address: str, count: int, number: int) -> None:
  """Meets the others, begins to watch them, and connects JAX."""
  global _watch
  timeout, limit = flags.FLAGS.join_timeout, flags.FLAGS.hang_timeout
  if count > 1:
    facts = software.described()
    if number == 0:
      port = int(address.rpartition(':')[2])
      members = meeting.host(count, port, facts, timeout, preflight.judge)
    else:
      members = [meeting.attend(address, number, count, facts, timeout)]
    _watch = Watch(members, number, limit)
    _watch.begin()
  try:
    jax.distributed.initialize(
      address, count, number,
      initialization_timeout=max(timeout, 60),
      # JAX itself names nobody: leave it to the watch to end the processes.
      heartbeat_timeout_seconds=NEVER,
    )  # fmt: skip
  except RuntimeError as error:
    line = str(error).split('\n')[0]
    raise UserError(
      f'--coordinator={address}: JAX could not connect the processes ({line}).'
    ) from error
  local = jax.local_devices()
  check_alike(
    'devices',
    {'kind': local[0].device_kind, 'devices': len(local)},
    'Each must have the same kind and number: is one of them broken, or held '
    'by another program?',
  )


def doing(what: str, long: bool = True) -> None:
  """This process comes to a place that all of them pass, in the same order.

  Args:
    what: it does there, in a few words.
    long: that may take PATIENCE times as long as a step.
  """
  if _watch:
    _watch.at(what, long)


def failed(text: str, status: int) -> None:
  """Reports that this process ends with an error, so that the others do too.

  Where another one has died or is hung, which may be the cause, this prints so
  and ends the process.
  """
  verdict = _watch and _watch.fail(text, status)
  if verdict and verdict.status == AGAIN:
    watch.end(verdict)


def leave() -> None:
  """This process has done its work, and ends in good order."""
  if _watch:
    _watch.leave()


def ask(value: Any, answer: Callable[[list], Any]) -> Any:
  """answer([value of each process]); all must call this, and all get it.

  Values and answers are JSON-able. Nothing is compiled for it.
  """
  if _watch:
    return _watch.ask(value, answer)
  if jax.process_count() == 1:
    return answer([value])
  # Another program has connected the processes: JAX gathers the values.
  text = json.dumps(value).encode()
  sizes = multihost_utils.process_allgather(np.array(len(text)))
  padded = np.frombuffer(text.ljust(sizes.max()), np.uint8)
  texts = multihost_utils.process_allgather(padded)
  return answer([json.loads(x.tobytes()) for x in texts])


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

  The message names the value, in the plural, what differs in it and on which
  processes, and gives the user advice.
  """
  if jax.process_count() == 1:
    return

  def answer(found):
    hosts, values = zip(*found, strict=True)
    return preflight.disagreement(what, values, hosts, advice)

  if problem := ask((socket.gethostname(), value), answer):
    raise UserError(problem)


def check_workdir(folder: str, needed: int) -> None:
  """Raises UserError unless all processes share the folder.

  Warns if it has no room for `needed` bytes, of a checkpoint.
  """
  main = jax.process_index() == 0
  if main:
    preflight.warn_of_space(folder, needed)
  if jax.process_count() > 1 and (
    problem := preflight.check_workdir(ask, folder, main)
  ):
    raise UserError(problem)


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

    def asked_to_stop():
      if _watch:
        _watch.move()
      return multihost_utils.reached_preemption_sync_point(next(calls))

    yield asked_to_stop
    return
  with interrupt.listening() as asked_to_stop:
    yield asked_to_stop


def until(asked: Callable[[], bool], items: Iterable[T]) -> Iterator[T]:
  """The items; raises AskedToStopError if more are wanted after a request."""
  for item in items:
    if asked():
      raise AskedToStopError
    yield item
