"""The step of the loop that learns from rewards, and its record of rollouts."""

import functools
import json
import os
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from input_pipeline import pipeline
from input_pipeline.sources import growing, paths
from train.generation import programs
from train.generation.prompts import until_eos
from train.learning import lora
from train.learning.state import TrainState
from train.learning.step import compile_train_step, configured_step
from train.parallel import compilation, processes, sharding
from train.reinforcing import rollouts, scores, updates
from train.reinforcing.policies import policy_of
from train.reporting.metrics import writing
from train.runs.checkpoint import Checkpoints
from train.setup import Setup

NAME = 'rollouts.jsonl'


class Learner:
  """state, a batch of prompts -> state, metrics: in place of the usual step.

  Args:
    setup: of the run.
    data: of its only phase.
    rows: B, of a batch.
    checkpoints: of the run, whose first one has the reference's parameters.
  """

  def __init__(
    self,
    setup: Setup,
    data: pipeline.Data,
    rows: int,
    checkpoints: Checkpoints,
  ):
    self._setup, self._data, self._checkpoints = setup, data, checkpoints
    self._align = align = setup.config.align
    self._policy = policy_of(align)
    start = data.start_id or 0
    self._fixed = programs.Fixed(
      setup.model, data.end_id, start, data.tokenizer.size, setup.mesh
    )
    self._sample = rollouts.make_sampler(
      setup, self._fixed, align.samples, align.answer_length
    )
    self._rewards = scores.Scores(align, data)
    # Of the reference, from the first step on: its parameters, or with LoRA
    # its factors.
    self._reference = None
    self._record = Record(os.fspath(checkpoints.folder.parent))
    everywhere = jax.sharding.NamedSharding(
      setup.mesh, jax.sharding.PartitionSpec()
    )
    self._prompts = compilation.jit(
      rollouts.prompts_of, setup.mesh, out_shardings=everywhere
    )
    scoring = updates.Scoring(
      setup.model.clone(loss_chunk=setup.config.train.loss_chunk),
      self._policy, align.samples, align.answer_length, align.discount,
      align.gae_decay,
    )  # fmt: skip
    by_row = jax.sharding.NamedSharding(setup.mesh, sharding.BATCH)
    self._score = compilation.jit(
      scoring, setup.mesh, out_shardings=(by_row, everywhere)
    )
    self._update = self._compile(scoring, rows)

  def _compile(self, scoring, rows):
    """The program of the updates, for `rows` prompts."""
    setup, align = self._setup, self._align
    step = configured_step(
      setup.config, setup.model, setup.optimizer, setup.schedule, setup.tuning,
      self._policy.criterion,
    )  # fmt: skip
    all_updates = functools.partial(
      updates.update, step=step, policy=self._policy, epochs=align.epochs,
      minibatches=align.minibatches, seed=setup.config.seed, beta=align.beta,
      kl_target=align.kl_target,
    )  # fmt: skip
    prompts = setup.batch(self._data.shapes, rows)
    N, T = rows * align.samples, align.answer_length
    found = jax.eval_shape(rollouts.prompts_of, prompts)
    arrays = rollouts.rows_of(
      setup.model.config,
      rollouts.Prompts(*(np.zeros(x.shape, 'int32') for x in found)),
      rollouts.Answers(*(np.zeros((N, T), k) for k in ('int32', 'f', '?'))),
      0,
    )
    params = jax.eval_shape(setup.tuning.applied, setup.state.params)
    with setup.on_mesh():
      answers, sums = jax.eval_shape(
        scoring, params, params, arrays, np.zeros((N, T), 'f'),
        np.zeros(N, 'f'), np.zeros(N, bool), np.float32(0),
      )  # fmt: skip
    batch = {
      'answers': setup.batch(
        {k: (x.shape[1:], x.dtype) for k, x in answers.items()}, N
      ),
      'sums': sums,
    }
    batch |= {k: x for k, x in prompts.items() if k in ('cursor', 'last_of')}
    platform = setup.mesh.devices.flat[0].platform
    own = setup.config.sharding.compiler_options
    with setup.on_mesh():
      return compile_train_step(
        all_updates, setup.state, batch, compilation.options(own, platform)
      )  # fmt: skip

  def memory_analysis(self) -> Any:
    """Of the program of the updates."""
    return self._update.memory_analysis()

  def __call__(
    self, state: TrainState, batch: dict[str, jax.Array]
  ) -> tuple[TrainState, dict[str, Any]]:
    """Writes answers, scores them, and learns; `state` is donated.

    Raises:
      RewardError: no answer gets a reward.
    """
    setup, align = self._setup, self._align
    done = int(state.step)
    processes.doing(f'writing the answers of step {done + 1}', long=True)
    prompts = rollouts.Prompts(*jax.device_get(self._prompts(batch)))
    seed = rollouts.seed_of(setup.config.seed, done)
    with setup.on_mesh():
      params = setup.tuning.applied(state.params)
    answers = self._sample(params, prompts, seed)
    present = np.repeat(prompts.segments.any(axis=1), align.samples)
    texts = self._texts(prompts, answers)
    processes.doing(f'scoring the answers of step {done + 1}', long=True)
    ids = self._ids(prompts, answers)
    rewards, allowed = self._rewards(texts, present, ids)
    arrays = rollouts.rows_of(
      setup.model.config, prompts, answers, self._fixed.start
    )
    beta = np.float32(align.beta)
    if align.kl_target:
      beta = beta * jax.device_get(state.kl_factor)
    arrays, scored = self._placed(arrays), self._placed({
      'sampled': answers.log_probs, 'rewards': rewards, 'allowed': allowed,
    })  # fmt: skip
    with setup.on_mesh():
      reference = self._reference_of(state)
      found, sums = self._score(params, reference, arrays, **scored, beta=beta)
      own = {k: x for k, x in batch.items() if k in ('cursor', 'last_of')}
      new, metrics = self._update(state, {'answers': found, 'sums': sums} | own)
    ended = answers.tokens == self._fixed.eos
    metrics['sums'] |= {
      'written': float(present.sum()),
      'ended': float(ended.any(axis=1)[present].sum()),
      'empty': float(ended[present, 0].sum()),
      'failed': float(np.isnan(rewards[present]).sum()),
    }
    self._record.write(
      done + 1, self._lines(done, seed, texts, answers, rewards, present)
    )
    return new, metrics

  def _texts(self, prompts, answers):
    """(prompt, answer, target) of each answer, as text."""
    tokenizer, copies = self._data.tokenizer, self._align.samples
    text = functools.partial(until_eos, tokenizer, end=self._fixed.eos)
    asked = [
      (tokenizer.decode(ids[read > 0]), text(target[wanted > 0]))
      for ids, read, target, wanted in zip(*prompts, strict=True)
    ]
    written = map(text, answers.tokens)
    return [
      (asked[n // copies][0], text, asked[n // copies][1])
      for n, text in enumerate(written)
    ]

  def _ids(self, prompts, answers):
    """(prompt, answer without its end) of each answer, as ids."""
    copies, eos = self._align.samples, self._fixed.eos
    asked = [
      ids[read > 0]
      for ids, read in zip(prompts.source, prompts.segments, strict=True)
    ]
    return [
      (asked[n // copies], line[read & (line != eos)])
      for n, (line, _, read) in enumerate(zip(*answers, strict=True))
    ]

  def _placed(self, arrays):
    """Arrays of all answers, the same on each host, over the mesh."""
    size = len(next(iter(arrays.values())))
    own = self._setup.rows_of(size)
    arrays = {name: x[own] for name, x in arrays.items()}
    return sharding.global_batch(arrays, own, self._setup.mesh, size)

  def _reference_of(self, state):
    """The parameters that the run began with, as the model reads them.

    They are those of the run's first checkpoint, which is kept. LoRA's base
    never changes: of its run the factors alone are read again.
    """
    if self._reference is None:
      self._reference = self._restored()
    if lora.KEY not in state.params:
      return self._reference
    base = {k: x for k, x in state.params.items() if k != lora.KEY}
    if not self._reference:
      return base
    with self._setup.on_mesh():
      return self._setup.tuning.applied(base | self._reference)

  def _restored(self):
    """The parameters of the first checkpoint; with LoRA the factors alone.

    None of these where they change nothing, as those of a run that begins
    without any.
    """
    first = self._checkpoints.steps()[0]
    if first:
      raise ValueError(
        f'{self._checkpoints.folder} lacks the checkpoint of step 0, whose '
        'parameters are those of the reference. Bring it back, or begin '
        'another run in another --workdir.'
      )
    wanted = self._setup.state.params
    if lora.KEY not in wanted:
      return self._checkpoints.restore_params(wanted, first)
    wanted = {'params': {lora.KEY: wanted[lora.KEY]}}
    found = self._checkpoints.restore_some(wanted, first)['params']
    return found if lora.changes(found) else {}

  def _lines(self, done, seed, texts, answers, rewards, present):
    """A row of the record for each answer."""
    copies = self._align.samples
    logs = answers.log_probs.sum(axis=1, dtype='float64')
    for n in np.flatnonzero(present):
      prompt, answer, target = texts[n]
      yield {
        'step': done + 1,
        'seed': seed,
        'row': int(n // copies),
        'sample': int(n % copies),
        'prompt': prompt,
        'answer': answer,
        'target': target,
        'tokens': int(answers.read[n].sum()),
        'log_prob': round(float(logs[n]), 4),
        'reward': float(rewards[n]) if np.isfinite(rewards[n]) else None,
      }


class Record:
  """WORKDIR/rollouts.jsonl: a line for each answer, with what seeds it.

  The answer is drawn with the key that `programs.stepwise` makes of the `seed`,
  the `row` and the `sample`, from the parameters before the step. A run that
  resumes drops the lines of the steps that it makes again.
  """

  def __init__(self, folder: str):
    self._path = os.path.join(folder, NAME)
    self._file, self._last = None, 0

  def write(self, step: int, rows: Iterable[dict[str, Any]]) -> None:
    """Writes the lines of a step; raises OSError if the disk is full."""
    if jax.process_index():
      return
    with writing(self._path):
      if self._file is None or step <= self._last:
        self._open(step)
      lines = (json.dumps(row, ensure_ascii=False) for row in rows)
      self._file.write(''.join(f'{x}\n' for x in lines).encode())
      self._file.flush()
    self._last = step

  def _open(self, step):
    """Opens the file to add to what was written before `step`."""
    if self._file is not None:
      self._file.close()
    if paths.exists(self._path):
      with paths.replacing(self._path) as file:
        for line in paths.read(self._path).splitlines(keepends=True):
          if line.endswith(b'\n') and json.loads(line)['step'] < step:
            file.write(line)
    self._file = growing.GrowingFile(self._path, keep=True)
