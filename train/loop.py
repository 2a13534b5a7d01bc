"""Training, from a config to a trained model: one script, top to bottom."""

import contextlib
import functools
import gc
import json
import math
import shutil
import time

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs.command import UserError, summary
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from input_pipeline.streams.chunks import SourceEnded
from models.build import build
from models.config import TransformerConfig
from train import generate
from train.evaluate import EmptySplitError, evaluate, make_eval_step
from train.fit import step_flops
from train.learning.criteria import objective_for
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import (
  abstract_params,
  abstract_state,
  create_state,
  is_finite,
)
from train.learning.step import compile_train_step, configured_step
from train.parallel import processes, sharding
from train.reporting.metrics import MetricsWriter, draw_curves, read_metrics
from train.reporting.progress import Progress, one_screen, overview
from train.reporting.progress import say as show_line
from train.reporting.tally import Tally
from train.runs import (
  beginning,
  beginning_tokenizer,
  folders,
  history,
  opening,
  record,
  workdir,
)
from train.runs.best import Best
from train.runs.checkpoint import Checkpoints
from train.settings import check_settings


class TrainingError(UserError):
  """Training cannot go on; the message says what lies safe."""


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
    config: from `configs/`; None: the one the workdir was begun with.
    folder: the workdir.
    accept_changed_data: go on though the data are not the checkpoint's.
    accept_changed_config: go on though keys changed that may; see
      `changes.CHANGEABLE`.
    init_from: WORKDIR[:STEP], whose parameters a new run takes; see
      `beginning`.
    init_state: the optimizer's state and the step are taken too.

  Raises:
    ValueError: a setting that cannot work, before anything is compiled.
    UserError: processes of one run have different configs or data; the step
      needs more memory than there is.
    CheckpointError: a checkpoint cannot be written, or none be read.
    TrainingError: the loss is not finite, or the data is at an end.
  """
  main = jax.process_index() == 0

  def say(text: str) -> None:
    if main:
      show_line(text)

  # ---- Settings ------------------------------------------------------------

  if config is None:
    config = workdir.read_config(folder)
  processes.check_alike(
    'configs',
    json.loads(config.to_json()),
    'Give all of them the same --config flags.',
  )
  check_settings(config, jax.device_count())
  data_config = DataConfig(**config.data)
  phases = data_config.phases(config.train.steps)
  for _, phase in phases:  # an objective that this family cannot learn?
    pipeline.batch_shapes(phase, config.model.family)
  model = build(TransformerConfig(**config.model))
  objective = objective_for(model.config)
  schedule = make_schedule(config.schedule, config.train.steps)
  params_shape, axes = abstract_params(model)
  optimizer = make_optimizer(config.optimizer, schedule, axes)
  mesh = sharding.make_mesh(config.sharding.mesh, config.sharding.rules)
  rules = sharding.make_rules(config.sharding.rules)
  state_shape = abstract_state(
    model, optimizer, data_config.cursor_shape, mesh, rules
  )
  best = Best(
    config.checkpoint.best, objective, data_config.objective == 'causal'
  )
  changed = workdir.check(folder, config, accept_changed_config)
  origin = beginning.find(folder, config, state_shape, init_from, init_state)
  say(summary(config, shutil.get_terminal_size().columns))
  places = jax.tree.map(lambda x: x.sharding, state_shape.params)
  say(overview(params_shape, axes, places))

  # ---- Data ----------------------------------------------------------------

  data_args = data_config, config.seed, config.model.vocab_size
  if main:
    folders.make(folder)
    lock = folders.lock(folder)  # noqa: F841
    workdir.put_tokenizer_aside(folder, bool(changed))
    say(beginning_tokenizer.prepare(origin, *data_args, folder))
  processes.wait_for_all('tokenizer')
  data = pipeline.open_data(
    *data_args, config.eval.source, folder, family=config.model.family
  )
  processes.check_alike(
    'data', data.fingerprint, 'Let all of them read the same files.'
  )
  batch_sharding = NamedSharding(mesh, sharding.BATCH)
  phases = [(last, data.phase(phase)) for last, phase in phases]
  rows = sharding.batch_rows(mesh, data_config.batch)

  def place(host_batches):
    """Host batches -> global arrays, laid out over the mesh."""
    return opening.place(host_batches, rows, mesh, data_config.batch)

  # ---- State: the newest checkpoint's, or new ------------------------------

  checkpoints = Checkpoints(
    folder, config.checkpoint.keep, config.checkpoint.keep_every
  )
  restored = None if origin else checkpoints.restore_newest(state_shape)
  accepted = []  # differences of the data
  if restored:
    state, saved = restored
    kinds = ('source', 'eval_source') * accept_changed_data
    since = history.changed_keys(history.read(folder), int(state.step))
    if 'eval.source' in changed | since:
      kinds += ('eval_source',)
    accepted = opening.check_data(
      saved['data'], data.fingerprint, folder, kinds
    )
    say(f'Going on from the checkpoint of step {int(state.step)}.')
  elif origin:
    say(beginning.describe(origin, config))
    saved = origin.saved if origin.own else None
    state = beginning.create(
      origin, model, optimizer, state_shape, data.start(), config.seed
    )
  else:
    saved = None
    state = create_state(
      model, optimizer, state_shape, data.start(), config.seed
    )
  start = int(state.step)
  entries = history.go_on(
    folder, saved, start, beginning.provenance(origin), changed, accepted
  )
  run = {
    'config': json.loads(config.to_json()),
    'data': data.fingerprint,
    'made_by': record.made_by(),
    'history': entries,
  }
  tally = Tally(objective.means, saved.get('counts') if saved and start else {})

  # ---- The compiled steps, one for each phase that is still to come --------

  step_function = configured_step(config, model, optimizer, schedule)
  compiled, flops = {}, {}
  for last, data in phases:
    if last <= start:
      continue
    batch_shape = {
      name: jax.ShapeDtypeStruct(
        (data_config.batch, *tail), dtype, sharding=batch_sharding
      )
      for name, (tail, dtype) in data.shapes.items()
    }
    flops[last] = step_flops(model.config, batch_shape)
    with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
      clock = time.perf_counter()
      compiled[last] = compile_train_step(
        step_function, state_shape, batch_shape
      )
      say(f'Compiled the step in {time.perf_counter() - clock:.1f} s.')
  run_eval = make_eval_step(model, data)
  run_greedy = jax.jit(
    functools.partial(
      generate.decode,
      model=model,
      eos=data.tokenizer.eos,
      start=data.start_id,
      vocabulary=data.tokenizer.size,
    ),
    static_argnames='length',
  )
  everywhere = NamedSharding(mesh, PartitionSpec())
  first_rows = jax.jit(
    functools.partial(generate.first_examples, rows=config.eval.samples),
    out_shardings=everywhere,
  )

  # ---- Evaluation ----------------------------------------------------------

  def evaluate_now(step: int, data: pipeline.Data) -> bool:
    """False where a stop was asked for before it came to its end."""
    clock = time.perf_counter()
    held_out = place(data.evaluation(rows, data_config.batch))
    held_out = processes.until(asked_to_stop, held_out)
    try:
      with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
        means = evaluate(
          run_eval, state.params, held_out, config.eval.batches, objective.means
        )
    except processes.AskedToStopError:
      return False
    except EmptySplitError:
      next(data.batches(data.start(), rows))  # does the source have anything?
      raise
    writer.write(step, {f'eval/{name}': x for name, x in means.items()})
    if step in checkpoints.steps() and best.add(step, means) and main:
      best.write(folder)
    checkpoints.best = best.step
    progress.note(
      f'step {step:,}: held-out loss {means["loss"]:.4f}, perplexity '
      f'{means["perplexity"]:.4g}, accuracy {means["accuracy"]:.4f} on '
      f'{means["tokens"]:,} tokens, in '
      f'{time.perf_counter() - clock:.1f} s'
    )
    if config.eval.samples:
      batch = next(place(data.evaluation(rows, data_config.batch)))
      examples = first_rows(batch)
      length = generate.target_length(model.config, data.config)
      most = generate.room(model.config, jax.device_get(examples['segments']))
      # A few rows need no rules of a mesh: all devices decode all of them.
      with jax.set_mesh(mesh), nn.logical_axis_rules(()):
        tokens = run_greedy(
          state.params,
          examples['source'],
          examples['segments'],
          length=length if most is None else min(length, most),
        )
      text = generate.show(
        data.tokenizer, jax.device_get(examples), jax.device_get(tokens)
      )
      writer.write_text(step, 'samples', text)
      progress.note(one_screen(text))
    if main:
      draw_curves(folder)
    progress.pause(time.perf_counter() - clock)
    return True

  # ---- Training ------------------------------------------------------------

  if origin and not origin.own:
    checkpoints.save(state, start, run | {'counts': tally.state()})
    checkpoints.wait()
  if main:
    history.write(folder, entries)
    workdir.claim(folder, config)
  # Rows of another config, which never made a step, are dropped.
  kept = None if changed and not restored else start
  there = saved.get('rows', 0) if restored else 0
  writer = MetricsWriter(folder, kept, active=main, rows=there)
  best.read(read_metrics(folder), checkpoints.steps())
  checkpoints.best = best.step
  progress = Progress(config.train.steps, start, main)

  def check(step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
    """Counts a step; its metrics. Stops where they are not finite."""
    values = jax.device_get(metrics)
    cursor, sums = values.pop('cursor'), values.pop('sums')
    values = {name: float(x) for name, x in values.items()}
    if math.isfinite(values['loss']) and math.isfinite(values['grad_norm']):
      tally.add(sums, values['tokens'])
      return values
    writer.write(step, {f'train/{name}': x for name, x in values.items()})
    raise not_finite(
      f'The loss of step {step} is {values["loss"]}, the norm of its gradient '
      f'{values["grad_norm"]}.',
      cursor,
    )

  def not_finite(what: str, cursor: np.ndarray) -> TrainingError:
    kept = checkpoints.steps()
    return TrainingError(
      f'{what} The cursor ({data_config.cursor_names}) of each '
      f'stream at the end of its batch: {cursor.tolist()}. '
      + (
        f'The checkpoint of step {kept[-1]} is the last good one and is kept.'
        if kept
        else 'No checkpoint had been saved yet.'
      )
    )

  def save(step: int) -> None:
    """Saves the state, unless that is done; stops where it is not finite."""
    if step in checkpoints.steps():
      return
    if not is_finite(state):
      raise not_finite(
        f'After step {step} the state is not finite, though the loss was.',
        jax.device_get(state.cursor),
      )
    writer.flush()
    counts = {'counts': tally.state(), 'rows': writer.rows}
    checkpoints.save(state, step, run | counts)

  step = start
  pending = None  # a step whose metrics have not been looked at
  with (
    checkpoints,
    writer,
    contextlib.closing(progress),
    processes.listening() as asked_to_stop,
  ):
    stop = _evaluation_missing(folder, start, config) and not evaluate_now(
      start, next(d for last, d in phases if start <= last)
    )
    batches = None
    # What lives as long as the run is looked at no more by the collector, which
    # took a sixth of the input pipeline's time.
    gc.collect()
    gc.freeze()
    progress.begin()
    while step < config.train.steps and not stop:
      if batches is None or step == last:  # a phase begins, or the run
        last, data = next((last, d) for last, d in phases if step < last)
        cursor = jax.device_get(state.cursor)
        if step in dict(phases):  # the rows before were of another length
          cursor = data.next_block(cursor)
          progress.note(
            f'After step {step:,} rows have {data.config.length} tokens; what'
            ' is left of the block of documents that each of the'
            f' {data.config.streams} streams is in, of {data.config.block} at'
            ' most, is not read.'
          )
        batches = place(data.batches(cursor, rows, processes.everywhere))
        progress.step_flops = flops[last]
      try:
        batch = next(batches)
      except (ValueError, OSError) as error:  # the data's end, or no data
        if pending is not None:
          check(*pending)
        ended = isinstance(error, SourceEnded)  # on all hosts
        all_here = ended or jax.process_count() == 1
        if step and all_here:
          save(step)
          checkpoints.wait()
        if not ended:
          raise
        if step > start and step % config.eval.every:
          evaluate_now(step, data)
        raise TrainingError(
          f'After step {step} of {config.train.steps} the data is at an end: '
          f'{error} The newest checkpoint, of step '
          f'{max(checkpoints.steps(), default=0)}, is kept.'
        ) from error
      state, metrics = compiled[last](state, batch)
      step += 1
      checkpoints.check_saved()
      # The step before is looked at while this one runs.
      if pending is not None:
        check(*pending)
      pending = step, metrics

      done = step == config.train.steps
      stop = asked_to_stop()
      evaluates = (done or step % config.eval.every == 0) and not stop
      saves = done or stop or step % config.checkpoint.every == 0
      saves |= evaluates and bool(config.checkpoint.best)
      logs = done or step % config.train.log_every == 0
      if logs or saves or evaluates:
        values = check(*pending)
        pending = None
      if logs:
        values |= tally.row()  # means since the last row
        progress.update(step, values['loss'], values['tokens'])
        row = {f'train/{name}': x for name, x in values.items()}
        row |= {f'data/{name}': x for name, x in data.report().items()}
        writer.write(step, row | tally.totals() | progress.rates())
      if saves:
        save(step)
      if saves and done:  # report a failure before the last evaluation
        checkpoints.wait()
      if evaluates and not evaluate_now(step, data):
        stop = True
        save(step)
    checkpoints.wait()

  if stop:
    say(
      'Asked to stop: '
      + (f'the checkpoint of step {step} is saved. ' if step else '')
      + 'Run the same command again to go on.'
    )
  elif step > config.train.steps:
    say(
      f'Nothing to do: the checkpoint in {folder} is of step {step}, beyond '
      f'train.steps={config.train.steps}.'
    )
  else:
    say(f'Done: step {step} of {config.train.steps}. All of it is in {folder}.')


def _evaluation_missing(folder: str, step: int, config: ConfigDict) -> bool:
  """Whether the step to start from is due to be evaluated, and is not yet.

  Step 0 is, so that a split that cannot be read fails at once; a later one
  where a kill came between its checkpoint and its evaluation.
  """
  if step != config.train.steps and step % config.eval.every:
    return False
  # The first host writes the metrics, so that it alone can tell.
  missing = jax.process_index() == 0 and not any(
    row['step'] == step and 'eval/loss' in row for row in read_metrics(folder)
  )
  return bool(multihost_utils.broadcast_one_to_all(missing))
