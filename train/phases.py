"""The phases of a run: their data, and their compiled steps."""

import dataclasses
import time
from collections.abc import Callable

import jax

from configs.commands import terminal
from configs.phases import Phase as Plan
from input_pipeline.pipeline import Data
from train.aligning import methods
from train.parallel import processes
from train.parallel.sharding import padded
from train.reinforcing.learner import Learner
from train.reporting.flops import step_flops
from train.runs.checkpoint import Checkpoints
from train.setup import Setup


@dataclasses.dataclass(frozen=True)
class Phase:
  """Steps whose batches have one shape; see `configs.phases`."""

  plan: Plan
  first: int  # the step before the first one
  last: int  # the last step
  data: Data
  rows: int  # of a batch, with padding
  step: Callable | None  # compiled: state, batch -> state, metrics; None: past
  flops: float  # of a step, all devices together, without padding


def compile_phases(
  setup: Setup, data: Data, start: int, checkpoints: Checkpoints
) -> list[Phase]:
  """The phases of the run; steps are compiled for those after `start`.

  A method that writes answers has a `Learner` as its step, which reads the
  run's first one of the `checkpoints`. Prints how long that took.

  Raises:
    DoesNotFitError: a step needs more memory than a device has.
  """
  processes.doing('compiling')
  config, found, compiled = setup.config, [], {}
  planned = data.phases()
  sizes = padded([plan.batch for plan, _ in planned], setup.least_rows)
  clock = time.perf_counter()
  for (plan, own), rows in zip(planned, sizes, strict=True):
    last = config.train.steps if plan.last is None else plan.last
    key = rows, own.kind
    if last > start and key not in compiled:
      if methods.writes(config):
        compiled[key] = Learner(setup, own, rows, checkpoints)
      else:
        compiled[key] = setup.compile_step(setup.batch(own.shapes, rows))
    batch = setup.batch(own.shapes, plan.batch)
    for begin, until, learner in setup.tuning.parts:  # of one cost a step
      first, end = max(plan.first, begin), min(last, until)
      if first < end:
        flops = step_flops(setup.model.config, batch, learner)
        step = compiled.get(key) if end > start else None
        found.append(Phase(plan, first, end, own, rows, step, flops))
  if compiled and jax.process_index() == 0:
    seconds = time.perf_counter() - clock
    terminal.say(f'Compiled the step in {seconds:.1f} s{_shapes(found)}.')
  return found


def planned_bytes(parts: list[Phase]) -> int:
  """What the largest of the compiled steps takes on a device, by the compiler.

  0: it is not known, or the device is the host.
  """
  largest = 0
  for step in {part.step for part in parts} - {None}:
    found = step.memory_analysis()
    if found and jax.default_backend() != 'cpu':
      own = found.argument_size_in_bytes + found.temp_size_in_bytes
      # What is donated is in the arguments and in the output: once.
      own += found.output_size_in_bytes - found.alias_size_in_bytes
      largest = max(largest, own)
  return largest


def _shapes(parts: list[Phase]) -> str:
  """For how many shapes steps are compiled, and how many rows are padding."""
  left = [part for part in parts if part.step]
  shapes = len({(part.rows, part.data.kind) for part in left})
  phases = len({part.plan for part in left})
  if phases == 1:
    return ''
  text = rows = 0  # of all batches
  for part in left:
    steps = part.last - part.first
    text, rows = text + steps * part.plan.batch, rows + steps * part.rows
  padding = f'; {1 - text / rows:.2%} of all rows are padding' * (text < rows)
  return f', for {shapes} shapes of {phases} phases{padding}'
