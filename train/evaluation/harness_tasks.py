"""Runs tasks of lm-evaluation-harness on a run or a published checkpoint."""

import contextlib
import copy
import difflib
import json
import os
from collections.abc import Iterator
from typing import Any

from input_pipeline.sources import paths
from input_pipeline.tokenizers import settings
from models.positions import check_places
from train.applying import Published
from train.evaluation.harness import Harness, lm_eval
from train.generation.making import make_writer
from train.generation.writer import Writer
from train.runs import opening

# Where config.json says how many tokens a model reads, as HFLM looks for it;
# the last is RWKV's.
LENGTHS = 'n_positions', 'max_position_embeddings', 'n_ctx', 'context_length'
LENGTH = 2048  # of a checkpoint without any
UNLIMITED = 10**9  # a tokenizer's model_max_length above this means nothing
# Resamplings for the standard error of perplexity and the like.
RESAMPLED = 1000


class Tasks(lm_eval.tasks.TaskManager):
  """The harness's tasks, with errors that a user can read."""

  def found(self, names: list[str]) -> list[str]:
    """The tasks, groups and tags that are named, also by patterns.

    Raises:
      ValueError: a name or pattern has none.
    """
    found = []
    for name in names:
      own = self.match_tasks([name])
      if not own:
        near = difflib.get_close_matches(name, self.all_tasks, 5, 0.5)
        raise ValueError(
          f'There is no task {name!r} among the {len(self.all_tasks):,} of the '
          'harness'
          + f' and {self.include_path}' * bool(self.include_path)
          + (f'; near it are {", ".join(near)}.' if near else '.')
        )
      found += own
    return [*dict.fromkeys(found)]

  def load(self, names: list[str]) -> dict:
    """As the harness does; see there.

    Raises:
      ValueError: a task cannot be loaded, or runs what the model writes.
    """
    try:
      loaded = super().load(names)
    except Exception as error:
      raise ValueError(
        f'The tasks {", ".join(names)} cannot be loaded: '
        f'{type(error).__name__}: {error}. Tasks of the harness download their '
        'data; --include_path has tasks of your own.'
      ) from error
    for name, task in loaded['tasks'].items():
      if getattr(task, 'UNSAFE_CODE', False):
        raise ValueError(f'The task {name} runs code that the model writes.')
    return loaded


def make_harness(
  model: opening.Run | Published, batch: int = 8, window: int = 0
) -> Harness:
  """The harness's view of a run's checkpoint, or of a published one.

  Args:
    model: from open_run or open_published.
    batch: requests that are answered at once.
    window: the most tokens that are read at once; 0: those of a run's rows, or
      what the files of a published checkpoint say.

  Raises:
    ValueError: the model's family writes no text, or has fewer positions.
  """
  writer = make_writer(model)
  check_places(window, writer.model.config)
  start = None if writer.pair else writer.start
  if isinstance(model, Published):
    begins, prefix = settings.begins(model.folder), writer.tokenizer.bos
    info = {'model': model.folder}
  else:
    begins, prefix = start is not None, start
    info = {'model': str(model.folder), 'step': model.step}
  prefix = start if prefix is None else prefix
  length = window or _length(model, writer)
  return Harness(writer, length, prefix, begins, batch, info)


def _length(model: opening.Run | Published, writer: Writer) -> int:
  """The most tokens that are read at once."""
  if places := check_places(1, writer.model.config):
    return min(places, writer.longest or places)
  if not isinstance(model, Published):
    return writer.longest
  from models.pretrained import files  # it needs the extra `pretrained`

  fields = files.read_config(model.folder)
  beside = settings.read(model.folder)[settings.CONFIG]
  found = [fields.get(name) for name in LENGTHS]
  found += [beside.get('model_max_length')]
  known = [x for x in found if isinstance(x, int) and 0 < x < UNLIMITED]
  return known[0] if known else LENGTH


def evaluate_tasks(
  model: opening.Run | Published,
  names: list[str],
  limit: int = 0,
  num_fewshot: int | None = None,
  batch: int = 8,
  window: int = 0,
  tasks: Tasks | None = None,
) -> dict[str, Any]:
  """The harness's results of a model.

  Args:
    model: from open_run or open_published.
    names: of tasks, groups or tags, or patterns such as 'mmlu_*'.
    limit: the first so many documents of each task; 0: all.
    num_fewshot: examples before each; None: as many as the task has.
    batch, window: see `make_harness`.
    tasks: where they are looked for; None: among the harness's own.
      `Tasks(include_path=FOLDER)` has those of a folder as well.

  Raises:
    ValueError: the model, a task or a request does not fit.
  """
  tasks = Tasks() if tasks is None else tasks
  lm = make_harness(model, batch, window)
  with _one_process():
    return lm_eval.simple_evaluate(
      lm, tasks=tasks.found(names), num_fewshot=num_fewshot, batch_size=batch,
      limit=limit or None, task_manager=tasks, bootstrap_iters=RESAMPLED,
      log_samples=False,
    )  # fmt: skip


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
  """The harness starts no processes: those that JAX has begun cannot fork."""
  name = 'DISABLE_MULTIPROC'
  before = os.environ.get(name)
  os.environ[name] = '1'
  try:
    yield
  finally:
    del os.environ[name]
    if before is not None:
      os.environ[name] = before


def shown(results: dict[str, Any]) -> str:
  """Results as the harness's table, and as a line of JSON for each task."""
  own = copy.deepcopy(results)  # the table takes fields out
  found = [lm_eval.utils.make_table(own)]
  if 'groups' in own:
    found.append(lm_eval.utils.make_table(own, 'groups'))
  step = {k: results['config'][k] for k in ('step',) if k in results['config']}
  for name, metrics in results['results'].items():
    kept = {k: x for k, x in metrics.items() if k not in ('alias', 'name')}
    found.append(_json({'lm_eval': name} | step | kept))
  return '\n'.join(found)


def check_out(path: str) -> None:
  """Raises ValueError if there is a file at `path` already."""
  if path and paths.exists(path):
    raise ValueError(f'--out={path} is there already: name another file.')


def write(results: dict[str, Any], path: str) -> None:
  """Writes results as JSON, whole or not at all.

  Raises:
    ValueError: there is a file already.
  """
  check_out(path)
  paths.write(path, f'{_json(results, indent=2)}\n'.encode())


def _json(value, indent=None):
  return json.dumps(
    value,
    indent=indent,
    ensure_ascii=False,
    default=lm_eval.utils.handle_non_serializable,
  )
