"""Training, from a config to a trained model: one script, top to bottom."""

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import jax
from ml_collections import ConfigDict

from input_pipeline.streams.chunks import SourceEnded
from train import rewinding
from train.aligning import methods, reference
from train.beginning import describe, first_state, open_data, say
from train.learning.state import TrainState
from train.parallel import processes
from train.phases import Phase, compile_phases, planned_bytes
from train.recording import Recorder, TrainingError, evaluation_missing
from train.reporting import profiling
from train.reporting.tally import Tally, ending
from train.reporting.timing import Record
from train.runs import adapters, folders, history, opening, warm_start, workdir
from train.runs.best import best_of
from train.runs.spikes import Guard, Spike
from train.setup import set_up


def train(
  config: ConfigDict | None,
  folder: str,
  accept_changed_data: bool = False,
  accept_changed_config: bool = False,
  init_from: str = '',
  init_state: bool = False,
  profile: str = '',
  init_flag: str = '--init_from',
) -> None:
  """Trains as `config` says, in `folder`, from its newest checkpoint if any.

  SIGTERM (or, on several hosts, a preemption notice to any) saves and returns.

  Args:
    config: from `configs/`; None: the config of the run in the workdir.
    folder: the workdir.
    accept_changed_data: resume although the data differ from the checkpoint's.
    accept_changed_config: resume although keys of `changes.CHANGEABLE` differ.
    init_from: WORKDIR[:STEP], whose parameters a new run takes; see
      `warm_start`.
    init_state: take the optimizer's state and the step too.
    profile: FROM:TO, steps to profile; see `profiling`.
    init_flag: the command's flag that gave `init_from`, for messages.

  Raises:
    ValueError: a setting that cannot work, before anything is compiled.
    UserError: processes of one run have different configs or data; the step
      needs more memory than there is.
    CheckpointError: a checkpoint cannot be written, or none be read.
    TrainingError: the loss is not finite, or the data has ended.
  """
  main = jax.process_index() == 0

  # ---- Settings ------------------------------------------------------------

  config = workdir.read_config(folder) if config is None else config
  plain = workdir.plain(config)
  processes.check_alike(
    'configs', plain, 'Give all of them the same --config flags.'
  )
  asked = profiling.parse(profile, config.train.steps)
  setup = set_up(config)
  best = best_of(setup)
  changed = workdir.check(folder, config, accept_changed_config)
  adapters.check(folder, setup)
  init_from = adapters.source(folder, init_from)
  origin = warm_start.find(
    folder, config, setup.state, init_from, init_state, init_flag
  )
  describe(setup)

  # ---- Data ----------------------------------------------------------------

  if main:
    folders.make(folder)
    lock = folders.lock(folder)  # noqa: F841
  spent = Record(folder, active=main)
  data = open_data(setup, folder, origin, changed)

  # ---- State: the newest checkpoint's, or new ------------------------------

  checkpoints = adapters.open_checkpoints(
    folder, config.checkpoint.keep, config.checkpoint.keep_every,
    keep_first=methods.writes(config),
  )  # fmt: skip
  with spent.part('restore'):
    restored = None if origin else checkpoints.restore_newest(setup.state)
  state, saved = restored or first_state(setup, data, origin)
  if not restored:
    adapters.store(folder, setup, state.params, data.fingerprint)
  start = int(state.step)
  accepted = []  # differences of the data
  if restored:
    accepted = opening.check_resumed_data(
      saved, data, start, folder, changed, accept_changed_data
    )
    say(f'Resuming from the checkpoint of step {start}.')
    say(profiling.describe(asked, start))
  with spent.part('compute'):
    reference.prepare(setup, data, folder, None if start else state)
  entries = history.go_on(
    folder, saved, start, warm_start.provenance(origin), changed, accepted
  )
  metadata = {
    'config': plain,
    'data': data.fingerprint,
    'made_by': history.made_by(),
    'history': entries,
  }
  counts = saved.get('counts') if saved and start else {}
  losses = (saved or {}).get('spikes', {}).get('losses', ())
  guard = Guard(config.train, entries, losses)

  # ---- The compiled steps, and the run's records ---------------------------

  with spent.part('compile'):
    earliest = guard.earliest(start, checkpoints.steps())
    parts = compile_phases(setup, data, earliest, checkpoints)
  tally = Tally(setup.criterion.means, counts, planned_bytes(parts))
  if origin and not origin.own:
    checkpoints.save(state, start, metadata | {'counts': tally.state()})
    checkpoints.wait()
  if main:
    history.write(folder, entries)
    workdir.claim(folder, config)
  recorder = Recorder(
    folder, setup, data, metadata, checkpoints, tally, best, guard, spent,
    start,
    # Rows of another config, which never made a step, are dropped.
    kept=None if changed and not restored else start,
    rows=saved.get('rows', 0) if restored else 0,
  )  # fmt: skip
  own = profiling.left(asked, start)
  profiler = profiling.Profiler(folder, own, spent)

  # ---- Training ------------------------------------------------------------

  with (
    contextlib.closing(spent),
    checkpoints,
    recorder.writer,
    contextlib.closing(recorder.progress),
    contextlib.closing(profiler),
    processes.listening() as asked_to_stop,
  ):
    step, stop = _make_steps(
      recorder, profiler, parts, state, start, asked_to_stop
    )
    spent.enter('checkpoint')
    checkpoints.wait()
  say(_outcome(folder, step, config.train.steps, stop))
  say(ending(spent.life, tally.planned))


def _make_steps(
  recorder: Recorder,
  profiler: profiling.Profiler,
  parts: Sequence[Phase],
  state: TrainState,
  start: int,
  asked_to_stop: Callable[[], bool],
) -> tuple[int, bool]:
  """Trains from step `start` to the end of the run, or to a stop.

  Args:
    recorder, profiler: of the run.
    parts: its phases.
    state: at step `start`; given up.
    start: updates made before.
    asked_to_stop: whether to stop after the step.

  Returns:
    The last step, and whether a stop was asked for.
  """
  config, spent = recorder.setup.config, recorder.time
  checkpoints = recorder.checkpoints
  step, stop = start, False
  pending = None  # a step and its metrics, not fetched yet
  if evaluation_missing(recorder.folder, start, config):
    now = next((x for x in parts if start <= x.last), parts[-1])
    stop = not recorder.evaluate(state, start, now.data, asked_to_stop)
  # Freeze long-lived objects so that the garbage collector skips them.
  # Collecting took a sixth of the input pipeline's time.
  gc.collect()
  gc.freeze()
  recorder.progress.begin()
  spent.mark(start)
  spent.enter('compute')
  while step < config.train.steps and not stop:
    phase = next(x for x in parts if step < x.last)
    batches, first = _batches(recorder, state, step, phase), step + 1
    try:
      while step < phase.last and not stop:
        # The first one takes longer: buffers are filled, programs are loaded.
        processes.doing(f'step {step + 1}', long=step + 1 == first)
        with profiler.step(step + 1, pending):
          try:
            # An error must save the state before the skipped batches: they
            # are skipped again.
            moved = rewinding.skip(recorder, state, step, batches)
            with spent.waiting():
              batch = next(batches)
          except (ValueError, OSError) as error:
            _end(recorder, state, step - start, pending, phase, error)
          state, metrics = phase.step(moved, batch)
        step += 1
        spent.started(step, metrics)
        checkpoints.check_saved()
        # Fetch the metrics of the step before while this one runs.
        if pending is not None:
          recorder.check(*pending)
        pending = step, metrics
        if found := profiler.stepped(step, metrics):
          recorder.progress.note(found)

        done = step == config.train.steps
        stop = asked_to_stop()
        evaluates = (done or step % config.eval.every == 0) and not stop
        saves = done or stop or step % config.checkpoint.every == 0
        saves |= evaluates and bool(config.checkpoint.best)
        logs = done or step % config.train.log_every == 0
        if logs or saves or evaluates:
          values = recorder.check(*pending)
          pending = None
        if logs:
          recorder.log(step, values, phase.data)
        if saves:
          recorder.save(state, step)
        if saves and done:  # report a failure before the last evaluation
          checkpoints.wait()
        if evaluates:
          stop = not recorder.evaluate(state, step, phase.data, asked_to_stop)
          if stop:
            recorder.save(state, step)
    except Spike as spike:
      # Make room on the devices.
      state = moved = batches = batch = metrics = pending = None
      state, step = rewinding.go_back(recorder, spike)
    phase.data.report_shares()
  return step, stop


def _batches(
  recorder: Recorder, state: TrainState, step: int, phase: Phase
) -> Iterator[dict[str, jax.Array]]:
  """The global batches of a phase after `step`."""
  plan, setup = phase.plan, recorder.setup
  if 0 < plan.first == step:
    recorder.progress.note(
      f'After step {step:,} batches have {plan.batch} rows of {plan.length} '
      'tokens.'
    )
  recorder.progress.step_flops = phase.flops
  taken = plan.counts(step)['rows']
  taken += recorder.guard.rows_skipped(setup.data.plan, step)
  batches = phase.data.batches(
    jax.device_get(state.cursor), setup.rows_of(phase.rows),
    processes.everywhere, taken,
  )  # fmt: skip
  return setup.place(batches, phase.rows)


def _end(
  recorder: Recorder,
  state: TrainState,
  made: int,
  pending: tuple | None,
  phase: Phase,
  error: Exception,
) -> NoReturn:
  """Saves what was trained when the data ends or cannot be read.

  Args:
    recorder: of the run.
    state: after the last step.
    made: steps since this process started.
    pending: a step and its metrics, which are not checked yet.
    phase: of the step.
    error: of reading the next batch; raised, unless the data has ended: then it
      is the cause of a TrainingError.
  """
  step = int(state.step)
  if pending is not None:
    recorder.check(*pending)
  ended = isinstance(error, SourceEnded)  # on all hosts
  if step and (ended or jax.process_count() == 1):
    recorder.save(state, step)
    recorder.checkpoints.wait()
  if not ended:
    raise error
  if made and step % recorder.setup.config.eval.every:
    recorder.evaluate(state, step, phase.data)
  steps = recorder.setup.config.train.steps
  raise TrainingError(
    f'The data has ended after step {step} of {steps}: {error} The newest '
    f'checkpoint, of step {max(recorder.checkpoints.steps(), default=0)}, is '
    'kept.'
  ) from error


def _outcome(folder: str, step: int, steps: int, stop: bool) -> str:
  """What a run says at its end."""
  if stop:
    saved = f'the checkpoint of step {step} is saved. ' if step else ''
    return f'Asked to stop: {saved}Run the same command again to resume.'
  if step > steps:
    return (
      f'Nothing to do: the checkpoint in {folder} is of step {step}, beyond '
      f'train.steps={steps}.'
    )
  return f'Done: step {step} of {steps}. The run is in {folder}.'
