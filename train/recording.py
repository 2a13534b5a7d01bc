"""What a run writes while it trains: rows, checkpoints, evaluations."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.commands.command import UserError
from input_pipeline import pipeline
from train.evaluation.held_out import (
  EmptySplitError,
  evaluate,
  evaluate_sources,
  make_eval_step,
  open_sources,
)
from train.finetuning import scoring
from train.generation.samples import make_sampling
from train.learning.state import TrainState, is_finite
from train.parallel import processes
from train.reporting.curves import draw_curves
from train.reporting.metrics import MetricsWriter, read_metrics
from train.reporting.progress import Progress, described, one_screen
from train.reporting.tally import Tally
from train.reporting.timing import Record
from train.runs import spikes
from train.runs.best import Best
from train.runs.checkpoint import Checkpoints
from train.setup import Setup


class TrainingError(UserError):
  """Training cannot continue; the message names the checkpoint that is kept."""


class Recorder:
  """Writes the metrics, checkpoints and evaluations of a run from `step` on."""

  def __init__(
    self,
    folder: str,
    setup: Setup,
    data: pipeline.Data,
    metadata: dict,  # saved in every checkpoint
    checkpoints: Checkpoints,
    tally: Tally,
    best: Best,
    guard: spikes.Guard,
    time: Record,
    step: int,
    kept: int | None,  # later rows of metrics.jsonl are dropped; None: all
    rows: int,  # as many as the checkpoint of `step` counted
  ):
    main = jax.process_index() == 0
    self.folder, self.setup, self.data = folder, setup, data
    self.metadata = metadata
    self.checkpoints, self.tally, self.best = checkpoints, tally, best
    self.guard, self.time = guard, time
    checkpoints.needs = guard.needs
    self.writer = MetricsWriter(folder, kept, active=main, rows=rows)
    tasks = [x.source.task.name for x in data.evaluated if x.labels]
    self.tasks = tuple(dict.fromkeys(tasks))
    self._read_best()
    self.progress = Progress(setup.config.train.steps, step, main)
    self.eval_step = make_eval_step(
      setup.model, data, setup.config.train.loss_chunk, setup.criterion,
      setup.mesh,
    )  # fmt: skip
    self.sample = make_sampling(setup, data, setup.config.eval.samples)
    self.score = scoring.make_scoring(setup, data)
    self.sources = open_sources(setup.config, data, folder)

  def check(self, step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
    """Counts a step and returns its metrics.

    Raises Spike if the guard finds one, and TrainingError if the loss or the
    gradient is not finite.
    """
    values = jax.device_get(metrics)
    cursor, sums = values.pop('cursor'), values.pop('sums')
    values = {name: float(x) for name, x in values.items()}
    self.guard.check(step, values['loss'], values['grad_norm'])
    if math.isfinite(values['loss']) and math.isfinite(values['grad_norm']):
      self.tally.add(sums, values['tokens'])
      return values
    self.writer.write(step, {f'train/{name}': x for name, x in values.items()})
    raise self._not_finite(
      f'The loss of step {step} is {values["loss"]}, the norm of its gradient '
      f'{values["grad_norm"]}.',
      cursor,
    )

  def log(
    self, step: int, values: dict[str, float], data: pipeline.Data
  ) -> None:
    """Shows and writes a step's metrics, and means since the last row."""
    times = self.time.row(step)
    with self.time.part('logging'):
      values = values | self.tally.row()
      self.progress.update(
        step, values['loss'], values['tokens'], times['time/input']
      )
      row = {f'train/{name}': x for name, x in values.items()}
      row |= {f'data/{name}': x for name, x in data.report().items()}
      row |= self.tally.totals() | self.progress.rates | times
      self.writer.write(step, row)

  def save(self, state: TrainState, step: int) -> None:
    """Saves the state once; raises TrainingError if it is not finite."""
    processes.doing(f'saving step {step}')
    if step in self.checkpoints.steps():
      return
    with self.time.part('checkpoint'):
      if not is_finite(state):
        raise self._not_finite(
          f'After step {step} the state is not finite, though the loss was.',
          jax.device_get(state.cursor),
        )
      self.writer.flush()
      counts = {'counts': self.tally.state(), 'rows': self.writer.rows}
      counts['spikes'] = self.guard.state()
      self.checkpoints.save(state, step, self.metadata | counts)
    self.time.mark(step)

  def evaluate(
    self,
    state: TrainState,
    step: int,
    data: pipeline.Data,
    asked_to_stop: Callable[[], bool] = lambda: False,
  ) -> bool:
    """Evaluates on the held-out split and writes the results and samples.

    Returns False where a stop was asked for before the end of the split. Raises
    EmptySplitError if there is nothing to evaluate on.
    """
    with self.time.part('evaluation'):
      done = self._evaluate(state, step, data, asked_to_stop)
    self.time.mark(step)
    return done

  def _evaluate(self, state, step, data, asked_to_stop):
    setup, clock = self.setup, time.perf_counter()
    processes.doing(f'evaluating step {step}')
    params = setup.tuning.applied(state.evaluated)

    def means_of(data):
      return evaluate(
        self.eval_step,
        params,
        processes.until(asked_to_stop, setup.evaluation(data)),
        setup.config.eval.batches,
        setup.criterion.means,
      )

    try:
      with setup.on_mesh():
        means = means_of(data)
        others = evaluate_sources(self.sources, means_of, data.config)
    except processes.AskedToStopError:
      return False
    except EmptySplitError:
      next(data.batches(data.start(), setup.rows))  # is the source empty too?
      raise
    means |= scoring.means(self.score(params))
    row = {f'eval/{name}': x for name, x in (means | others).items()}
    self.writer.write(step, row)
    saved = step in self.checkpoints.steps()
    if saved and self.best.add(step, means) and jax.process_index() == 0:
      self.best.write(self.folder)
    self.checkpoints.best = self.best.steps
    seconds = time.perf_counter() - clock
    of = 'held-out, of the average,' if setup.averaged else 'held-out'
    self.progress.note(
      f'step {step:,}: {of} {described(means, others)}, in {seconds:.1f} s'
    )
    if setup.config.eval.samples:
      batch = next(setup.evaluation(data))
      text = self.sample(params, batch, data.config)
      self.writer.write_text(step, 'samples', text)
      self.progress.note(one_screen(text))
    self.writer.flush()  # the curves are drawn from what is written
    if jax.process_index() == 0:
      draw_curves(self.folder)
    self.progress.pause(time.perf_counter() - clock)
    return True

  def go_on(self, saved: dict | None, step: int) -> None:
    """Goes on from an earlier step; see `rewinding`.

    `saved` is the metadata of its checkpoint; None: the run begins again.
    """
    saved = saved or {}
    counts = saved.get('counts') if step else {}
    means, planned = self.setup.criterion.means, self.tally.planned
    self.tally = Tally(means, counts, planned)
    self.guard.restart(saved.get('spikes', {}).get('losses', ()))
    self.writer.go_back(step)
    self.best.forget(self.folder)
    self._read_best()
    self.progress.go_back(step)
    self.time.mark(step)

  def _read_best(self) -> None:
    steps = self.checkpoints.steps()
    self.best.read(read_metrics(self.folder), steps, self.tasks)
    self.checkpoints.best = self.best.steps
    # A kill may have come between an evaluation and this file.
    if jax.process_index() == 0:
      self.best.write(self.folder)

  def _not_finite(self, what: str, cursor: np.ndarray) -> TrainingError:
    kept = self.checkpoints.steps()
    return TrainingError(
      f'{what} The cursor ({self.setup.data.cursor_names}) of each '
      f'stream at the end of its batch: {cursor.tolist()}. '
      + (
        f'The checkpoint of step {kept[-1]} is the last good one and is kept.'
        if kept
        else 'No checkpoint had been saved yet.'
      )
    )


def evaluation_missing(folder: str, step: int, config: ConfigDict) -> bool:
  """Whether the step to start from is due to be evaluated, and is not yet.

  Step 0 is due, so that an unreadable split fails at once. A later step is due
  if a kill came between its checkpoint and its evaluation.
  """
  if step != config.train.steps and step % config.eval.every:
    return False
  # Only the first process writes the metrics, so only it can tell.
  missing = jax.process_index() == 0 and not any(
    row['step'] == step and 'eval/loss' in row for row in read_metrics(folder)
  )
  return bool(processes.of_first(missing))
