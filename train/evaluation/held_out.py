"""Exact token-weighted means over held-out splits."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from input_pipeline import choices, pipeline
from input_pipeline.config import DataConfig
from train.learning.criteria import Criterion
from train.learning.step import eval_step
from train.learning.tokens import lm_means
from train.parallel import compilation, processes


def open_sources(
  config: ConfigDict, data: pipeline.Data, folder: str | None
) -> dict[str, pipeline.Data]:
  """The further held-out sets of eval.sources, by name.

  Args:
    config: of the run.
    data: of the run, whose objective reads them.
    folder: the workdir, which has the tokenizer.

  Raises:
    ValueError: a source cannot be opened.
  """
  found = {}
  for name, source in config.eval.sources:
    try:
      found[name] = pipeline.open_data(
        _alone(data.config, source), data.seed, config.model.vocab_size,
        source, folder, family=data.family,
      )  # fmt: skip
    except ValueError as error:
      raise ValueError(f'eval.sources, {name!r}: {error}') from error
    processes.check_alike(
      f'eval.sources, {name}',
      found[name].fingerprint,
      'Let all of them read the same files.',
    )
  return found


def _alone(data: DataConfig, source: str) -> DataConfig:
  """A run's config of data, to read one source alone."""
  off = ['mixture', 'rates', 'rate_cap', 'rate_temperature', 'documents']
  if not source.startswith(choices.FIELDS):
    off.append('text_field')
  if not source.startswith(choices.IN_WORDS):
    off += choices.WORDED
  defaults = {x.name: x.default for x in dataclasses.fields(DataConfig)}
  unset = {key: defaults[key] for key in off}
  return dataclasses.replace(data, source=source, **unset)


def evaluate_sources(
  sources: Mapping[str, pipeline.Data],
  one: Callable[[pipeline.Data], dict[str, float]],
  config: DataConfig,
) -> dict[str, float]:
  """NAME/METRIC -> the numbers of each held-out set, which `one` gives.

  `config` is that of the phase, which gives rows their length.
  """
  found = {}
  for name, data in sources.items():
    try:
      means = one(data.phase(config))
    except EmptySplitError as error:
      raise EmptySplitError(f'eval.sources, {name!r}: {error}') from error
    found |= {f'{name}/{metric}': value for metric, value in means.items()}
  return found


class EmptySplitError(ValueError):
  """There is nothing to evaluate on."""


def evaluate(
  step: Callable[[Any, dict], dict[str, jax.Array]],
  params: Any,
  batches: Iterable[dict[str, jax.Array]],
  limit: int = 0,
  means: Callable[[dict], dict] = lm_means,
) -> dict[str, float]:
  """Means over all predicted tokens of the split.

  Args:
    step: params, batch -> sums, from `make_eval_step`.
    params: of the model.
    batches: global batches. A batch of padding alone ends the split: every
      host has read its share, and all hosts stop at the same batch. A batch
      of text without a predicted token does not end it.
    limit: the most batches; 0: the whole split.
    means: of the criterion: sums -> means.

  Returns:
    The criterion's means, 'loss' and 'accuracy' among them; 'perplexity', e to
    the mean cross-entropy of a predicted token; 'tokens', the predicted ones;
    and 'bits_per_byte' where bytes were counted, whatever the tokenizer. Where
    labels are predicted, the criterion's means and 'labels', their number.

  Raises:
    EmptySplitError: the split has no token to predict.
  """
  totals = {'weight': 0.0, 'present': 0.0}
  for sums in _sums(step, params, itertools.islice(batches, limit or None)):
    if not sums['present']:
      break
    for name, total in sums.items():
      totals[name] = totals.get(name, 0.0) + float(total)
  present = totals.pop('present')
  if not present:
    raise EmptySplitError(
      'The evaluation split is empty. Lower data.holdout (every holdout-th '
      'document is held out) or give eval.source.'
    )
  if not totals['weight']:
    raise EmptySplitError(
      f'None of the {int(present):,} evaluated tokens is predicted. The '
      'documents may be too short for data.objective: give longer ones, or '
      'raise eval.batches if it is not 0.'
    )
  found = {name: float(x) for name, x in means(totals).items()}
  if 'z_loss' not in found:
    return found | {'labels': int(totals['weight'])}
  del found['z_loss']  # its factor belongs to training
  found['perplexity'] = float(np.exp(totals['loss'] / totals['weight']))
  if totals.get('bytes'):
    found['bits_per_byte'] = totals['loss'] / math.log(2) / totals['bytes']
  return found | {'tokens': int(totals['weight'])}


def _sums(step, params, batches):
  """Each batch's sums; the next batch is under way while they are fetched."""
  pending = None
  for batch in batches:
    sums = step(params, batch)
    if pending is not None:
      yield jax.device_get(pending)
    pending = sums
  if pending is not None:
    yield jax.device_get(pending)


def make_eval_step(
  model: nn.Module,
  data: pipeline.Data,
  loss_chunk: int = 0,
  criterion: Criterion | None = None,
  mesh: Mesh | None = None,
) -> Callable[[Any, dict], dict[str, jax.Array]]:
  """params, batch -> sums; compiled at the first call.

  Bytes are counted too where all of a text is predicted. `loss_chunk` is that
  of training. `criterion` is what is minimised; None: that of the model's head.
  `mesh` is that of the parameters; None: one device.
  """
  counted = data.config.objective == 'causal'
  lengths = data.tokenizer.byte_lengths() if counted else None
  step = functools.partial(
    eval_step,
    model=model,
    loss_chunk=loss_chunk,
    byte_lengths=lengths,
    criterion=criterion,
  )
  return compilation.jit(step, mesh)
