"""Training, from a config to a trained model: one script, top to bottom."""

import contextlib
import gc
import shutil
from collections.abc import Iterator
from typing import NoReturn

import jax
from ml_collections import ConfigDict

from configs.commands import terminal
from configs.commands.command import summary
from input_pipeline import pipeline
from input_pipeline.streams.chunks import SourceEnded
from train.learning.state import TrainState, create_state
from train.parallel import processes
from train.parallel.mesh import describe
from train.phases import Phase, compile_phases
from train.recording import Recorder, TrainingError, evaluation_missing
from train.reporting import progress
from train.reporting.tally import Tally
from train.runs import (
  folders,
  history,
  opening,
  warm_start,
  warm_start_tokenizer,
  workdir,
)
from train.runs.best import best_of
from train.runs.checkpoint import Checkpoints
from train.setup import Setup, set_up


def train(
  config: ConfigDict | None,
  folder: str,
  accept_changed_data: bool = False,
  accept_changed_config: bool = False,
  init_from: str = '',
  init_state: bool = False,
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
  setup = set_up(config)
  best = best_of(setup)
  changed = workdir.check(folder, config, accept_changed_config)
  origin = warm_start.find(folder, config, setup.state, init_from, init_state)
  _describe(setup)

  # ---- Data ----------------------------------------------------------------

  if main:
    folders.make(folder)
    lock = folders.lock(folder)  # noqa: F841
  data = _open_data(setup, folder, origin, changed)

  # ---- State: the newest checkpoint's, or new ------------------------------

  checkpoints = Checkpoints(
    folder, config.checkpoint.keep, config.checkpoint.keep_every
  )
  restored = None if origin else checkpoints.restore_newest(setup.state)
  state, saved = restored or _first_state(setup, data, origin)
  start = int(state.step)
  accepted = []  # differences of the data
  if restored:
    accepted = opening.check_resumed_data(
      saved, data, start, folder, changed, accept_changed_data
    )
    _say(f'Resuming from the checkpoint of step {start}.')
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
  tally = Tally(setup.criterion.means, counts)

  # ---- The compiled steps, and the run's records ---------------------------

  parts = compile_phases(setup, data, start)
  if origin and not origin.own:
    checkpoints.save(state, start, metadata | {'counts': tally.state()})
    checkpoints.wait()
  if main:
    history.write(folder, entries)
    workdir.claim(folder, config)
  recorder = Recorder(
    folder, setup, data, metadata, checkpoints, tally, best, start,
    # Rows of another config, which never made a step, are dropped.
    kept=None if changed and not restored else start,
    rows=saved.get('rows', 0) if restored else 0,
  )  # fmt: skip

  # ---- Training ------------------------------------------------------------

  step = start
  pending = None  # a step and its metrics, not fetched yet
  with (
    checkpoints,
    recorder.writer,
    contextlib.closing(recorder.progress),
    processes.listening() as asked_to_stop,
  ):
    stop = False
    if evaluation_missing(folder, start, config):
      now = next((x for x in parts if start <= x.last), parts[-1])
      stop = not recorder.evaluate(state, start, now.data, asked_to_stop)
    # Freeze long-lived objects so that the garbage collector skips them.
    # Collecting took a sixth of the input pipeline's time.
    gc.collect()
    gc.freeze()
    recorder.progress.begin()
    for phase in parts:
      if stop or step >= phase.last:
        continue
      batches = _batches(recorder, state, step, phase)
      while step < phase.last and not stop:
        try:
          batch = next(batches)
        except (ValueError, OSError) as error:
          _end(recorder, state, step - start, pending, phase, error)
        state, metrics = phase.step(state, batch)
        step += 1
        checkpoints.check_saved()
        # Fetch the metrics of the step before while this one runs.
        if pending is not None:
          recorder.check(*pending)
        pending = step, metrics

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
      phase.data.report_shares()
    checkpoints.wait()
  _say(_outcome(folder, step, config.train.steps, stop))


def _say(text: str) -> None:
  """Prints in the first process."""
  if jax.process_index() == 0:
    terminal.say(text)


def _describe(setup: Setup) -> None:
  """Prints the config, the parameters, and which of them are trained."""
  params = setup.state.params
  _say(summary(setup.config, shutil.get_terminal_size().columns))
  _say(progress.overview(params, setup.axes, setup.places.params))
  _say(describe(setup.mesh, setup.config.sharding.slices))
  _say(
    f'attention: {setup.model.config.attention} ({setup.attention}); remat: '
    f'{setup.model.config.remat}'
  )
  if lines := setup.tuning.describe(params):
    _say(lines)
  if setup.averaged:
    _say(
      f'train.ema_decay={setup.config.train.ema_decay}: evaluations use the '
      "parameters' moving average."
    )


def _open_data(
  setup: Setup, folder: str, origin: warm_start.Origin | None, changed: dict
) -> pipeline.Data:
  """The data; the first process makes or checks the tokenizer before."""
  processes.doing('opening the data')
  processes.check_workdir(folder, setup.state_bytes)
  config = setup.config
  data_args = setup.data, config.seed, config.model.vocab_size
  if jax.process_index() == 0:
    workdir.put_tokenizer_aside(folder, bool(changed))
    _say(warm_start_tokenizer.prepare(origin, *data_args, folder))
  processes.wait_for_all('tokenizer')
  data = pipeline.open_data(
    *data_args, config.eval.source, folder, family=config.model.family
  )
  processes.check_alike(
    'data', data.fingerprint, 'Let all of them read the same files.'
  )
  return data


def _first_state(
  setup: Setup, data: pipeline.Data, origin: warm_start.Origin | None
) -> tuple[TrainState, dict | None]:
  """The state of a run that begins, and the metadata it has so far, if any."""
  parts = setup.model, setup.optimizer, setup.state, data.start()
  seed = setup.config.seed
  if not origin:
    return create_state(*parts, seed, tuning=setup.tuning), None
  _say(warm_start.describe(origin, setup.config))
  saved = origin.saved if origin.own else None
  return warm_start.create(origin, *parts, seed, setup.tuning), saved


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
  batches = phase.data.batches(
    jax.device_get(state.cursor), setup.rows_of(phase.rows),
    processes.everywhere, plan.counts(step)['rows'],
  )  # fmt: skip
  return _counted(setup.place(batches, phase.rows), step)


def _counted(
  batches: Iterator[dict[str, jax.Array]], step: int
) -> Iterator[dict[str, jax.Array]]:
  """The batches after `step`; the other processes may know which is made."""
  first = step + 1  # it takes longer: buffers are filled, programs are loaded
  while True:
    step += 1
    processes.doing(f'step {step}', long=step == first)
    yield next(batches)


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
