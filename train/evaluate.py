"""Evaluation: exact token-weighted means over the held-out split.

`python -m train.evaluate --workdir=W [--step=N]` evaluates a checkpoint as the
run itself did at that step, and prints a line of JSON. --step=best is the best
one by the run's `checkpoint.best`, --step=best:TASK that of one of its tasks.
With --config=FILE.py (and --config.KEY=VALUE) it uses another config, for other
data or devices; that config must describe the same model. A run that has
learned a task gets the metrics of the task; --predictions=DIR writes its
answers in the format of the benchmark, with --source=task:NAME@test for a split
without labels.

--texts=SOURCE gives the perplexity of a decoder on the texts of a source, by
document, in windows of --window tokens that each predict --stride: of a run, or
of a published checkpoint (--from=CHECKPOINT). Repeat it for several.

--no_answer_threshold=X leaves a question of SQuAD 2.0 without an answer if the
score of no answer exceeds that of the answer by more than X. The scores have
the thresholds that are best for the evaluated split.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import terminal
from input_pipeline import pipeline
from input_pipeline.tasks import submission
from train import applying
from train.finetuning import scoring
from train.generation.perplexity import perplexity
from train.generation.writer import make_writer
from train.learning.criteria import lm_means
from train.learning.step import eval_step
from train.parallel import processes
from train.runs import command, opening, workdir
from train.runs.checkpoint import parse_step


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
  model: nn.Module, data: pipeline.Data, loss_chunk: int = 0
) -> Callable[[Any, dict], dict[str, jax.Array]]:
  """params, batch -> sums; compiled at the first call.

  Bytes are counted too where all of a text is predicted. `loss_chunk` is that
  of training.
  """
  counted = data.config.objective == 'causal'
  lengths = data.tokenizer.byte_lengths() if counted else None
  return jax.jit(
    functools.partial(
      eval_step, model=model, loss_chunk=loss_chunk, byte_lengths=lengths
    )
  )


def evaluate_run(
  folder: str,
  step: int | str | None = None,
  config: ConfigDict | None = None,
  source: str = '',
  predictions: str = '',
  no_answer_threshold: float | None = None,
) -> dict[str, float]:
  """'step', and what `evaluate` returns of the checkpoint; see open_run.

  For tasks there are also the numbers 'TASK/METRIC', and the mean 'score'.

  Args:
    folder: the workdir.
    step: of the checkpoint, 'best' or 'best:TASK'; None: the newest.
    config: None: the run's own.
    source: evaluated in place of the config's, such as 'task:glue/rte@test'.
    predictions: a folder for the answers to each task; '': they are not
      written.
    no_answer_threshold: of `Task.unanswerable`; None: 0.

  Raises:
    ValueError: a threshold is given, and no question can be left unanswered.
  """
  if source:
    config = workdir.read_config(folder) if config is None else config
    config = config.copy_and_resolve_references()
    config.eval.source = source
  run = opening.open_run(folder, step, config)
  data = opening.open_data(run)
  if no_answer_threshold is not None:
    _check_threshold(data, no_answer_threshold)
  threshold = no_answer_threshold or 0.0
  scores = scoring.make_scoring(run.setup, data, threshold)(run.params)
  for one in scores:
    if predictions and jax.process_index() == 0:
      written = submission.write(
        one.task, one.split, one.examples, one.predictions, predictions,
        threshold,
      )  # fmt: skip
      terminal.say(
        f'{written.path}: {written.rows:,} predictions, {written.replaced} '
        'replaced because the format cannot hold them'
      )
  means = {}
  if not scores or any(one.metrics for one in scores):
    with run.setup.on_mesh():
      means = evaluate(
        make_eval_step(run.model, data, run.config.train.loss_chunk),
        run.params,
        run.setup.evaluation(data),
        run.config.eval.batches,
        run.setup.criterion.means,
      )
  return {'step': run.step} | means | scoring.means(scores)


def _check_threshold(data: pipeline.Data, threshold: float) -> None:
  """Raises ValueError unless an evaluated task can use the threshold."""
  tasks = [x.source.task for x in data.evaluated if x.labels]
  if math.isnan(threshold) or not (
    data.config.objective == 'span' and any(x.unanswerable for x in tasks)
  ):
    names = ', '.join(x.name for x in tasks) or 'no task'
    raise ValueError(
      f'--no_answer_threshold={threshold} is a number for a model with a head '
      'that answers questions of which some have no answer, as those of '
      f'squad/v2.0; {names} as {data.config.objective} is evaluated here.'
    )


def main():
  if bool(_WORKDIR.value) == bool(_FROM.value):
    raise ValueError('Give --workdir of a run, or --from=CHECKPOINT.')
  if _FROM.value and (_STEP.value or _CONFIG.value is not None):
    raise ValueError(
      '--from=CHECKPOINT has one step and its own config: leave --step and '
      '--config out.'
    )
  _check_together('texts', ('window', 'stride', 'documents'), needed=True)
  others = 'source', 'predictions', 'no_answer_threshold'
  _check_together('texts', others, needed=False)
  processes.join()
  if _TEXTS.value:
    _read_texts()
    return
  if _FROM.value:
    raise ValueError('--from=CHECKPOINT is evaluated on --texts=SOURCE.')
  found = evaluate_run(
    _WORKDIR.value,
    parse_step(_STEP.value),
    _CONFIG.value,
    _SOURCE.value,
    _PREDICTIONS.value,
    _THRESHOLD.value,
  )
  if jax.process_index() == 0:
    print(json.dumps(found))


def _check_together(flag, others, needed):
  """Raises ValueError for other flags that need this one, or exclude it."""
  for name in others:
    found = flags.FLAGS[name]
    if found.value != found.default and bool(flags.FLAGS[flag].value) != needed:
      raise ValueError(
        f'--{name}={found.value} '
        + (f'needs --{flag}.' if needed else f'has no use with --{flag}.')
      )


def _read_texts():
  """Prints a line of JSON for each of --texts."""
  if _FROM.value:
    model = applying.open_published(_FROM.value)
  else:
    step = parse_step(_STEP.value)
    model = opening.open_run(_WORKDIR.value, step, _CONFIG.value)
  writer = make_writer(model)
  for source in _TEXTS.value:
    found = perplexity(
      writer, source, _WINDOW.value, _STRIDE.value, _DOCUMENTS.value,
      _FIELD.value,
    )  # fmt: skip
    if jax.process_index() == 0:
      print(json.dumps({'texts': source} | found), flush=True)


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.')
  _FROM = flags.DEFINE_string(
    'from', '', 'A published checkpoint, in place of a run.'
  )
  _TEXTS = flags.DEFINE_multi_string(
    'texts', (), 'A source of texts, such as textfile:wiki.test.raw.'
  )
  _FIELD = flags.DEFINE_string(
    'text_field', 'text', 'Where JSON and Parquet files have --texts.'
  )
  _WINDOW = flags.DEFINE_integer(
    'window', 0, "Tokens read at once; 0: a row's of training."
  )
  _STRIDE = flags.DEFINE_integer(
    'stride', 0, 'Tokens that a window predicts; 0: all it reads.'
  )
  _DOCUMENTS = flags.DEFINE_integer(
    'documents', 0, 'How many of --texts are read; 0: all.'
  )
  _STEP = flags.DEFINE_string(
    'step',
    '',
    "A number, 'best' or 'best:TASK'; default: the newest checkpoint.",
  )
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, "configs/FILE.py[:ARG]; default: the run's config."
  )
  _SOURCE = flags.DEFINE_string(
    'source', '', "Evaluated in place of the config's: task:glue/rte@test."
  )
  _PREDICTIONS = flags.DEFINE_string(
    'predictions', '',
    "A folder: the answers to each task, in its benchmark's format.",
  )  # fmt: skip
  _THRESHOLD = flags.DEFINE_float(
    'no_answer_threshold', None,
    'How much likelier no answer may be than an answer that is given (SQuAD '
    '2.0); default: 0.',
  )  # fmt: skip
  processes.define_flags()
  command.run(main)
