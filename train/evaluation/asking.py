"""Several prompted tasks for one model, and the file of its scores."""

import dataclasses
import json
import os
from typing import Any

import jax

from configs.commands import terminal
from input_pipeline.prompted import catalog
from input_pipeline.sources import paths
from train.applying import Published
from train.evaluation.prompted import Reader, ask
from train.generation.options import GREEDY, Options
from train.parallel import processes
from train.runs import opening

# Fields of Options that are flags of train.evaluate.
OPTIONS = 'samples', 'temperature', 'top_k', 'top_p', 'length', 'seed'
Scores = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Asking:
  """What a model is asked.

  Attributes:
    tasks: names; see catalog.find.
    options: how answers are written; their seed is that of the examples too.
    task_folder: has the tasks' files as their authors publish them.
    shots: examples before each question.
    shots_file: has the examples; '': the task's own are drawn.
    limit: the first so many questions of each task; 0: all.
    window, stride: of texts; see perplexity.
    batch: questions that are read at once.
  """

  tasks: tuple[str, ...]
  options: Options = GREEDY
  task_folder: str = ''
  shots: int = 0
  shots_file: str = ''
  limit: int = 0
  window: int = 0
  stride: int = 0
  batch: int = 8

  def __post_init__(self):
    for name in ('shots', 'limit', 'window', 'stride'):
      if (value := getattr(self, name)) < 0:
        raise ValueError(f'--{name}={value} must not be below 0.')
    if self.batch < 1:
      raise ValueError(f'--batch={self.batch} must be at least 1.')
    if self.shots_file and not self.shots:
      raise ValueError('--shots_file needs --shots, how many are shown.')


SETTINGS = tuple(
  field.name
  for field in dataclasses.fields(Asking)
  if field.name not in ('tasks', 'options')
)


def ask_all(
  model: opening.Run | Published,
  asking: Asking,
  out: str = '',
  predictions: str = '',
) -> Scores:
  """Task -> its metrics; see `prompted.ask`.

  Args:
    model: of a run or a published checkpoint.
    asking: what it is asked.
    out: a JSON file for the scores, written after each task. The same command
      goes on with the tasks that are missing. '': none.
    predictions: a folder for what each question got, TASK.jsonl; '': none.

  Raises:
    ValueError: a task is unknown, its files cannot be read, the model cannot do
      it, or `out` has scores of another model or by other settings.
  """
  tasks = [catalog.find(name) for name in asking.tasks]
  # Files are read before anything is compiled.
  questions = [
    catalog.open_task(
      task,
      asking.task_folder,
      0 if task.kind == 'text' else asking.shots,
      asking.limit,
      asking.options.seed,
      asking.shots_file,
    )
    for task in tasks
  ]
  reader = Reader(model, asking.batch)
  settings = _settings(asking)
  kept = _begun(model, settings, out)
  done = processes.of_first([task.name in kept['tasks'] for task in tasks])
  found: Scores = {}
  for task, items, is_done in zip(tasks, questions, done, strict=True):
    if is_done:
      if jax.process_index() == 0:
        terminal.say(f'{task.name}: {out} has it.')
      found[task.name] = kept['tasks'].get(task.name, {})
      continue
    asked = ask(
      reader, task, items, asking.options, asking.window, asking.stride
    )
    found[task.name] = kept['tasks'][task.name] = asked.metrics
    if jax.process_index() > 0:
      continue
    if predictions and asked.rows:
      name = task.name.replace('/', '_')
      lines = (json.dumps(x, ensure_ascii=False) for x in asked.rows)
      text = ''.join(f'{line}\n' for line in lines)
      _write(os.path.join(predictions, f'{name}.jsonl'), text)
    if out:
      _write(out, f'{json.dumps(kept, indent=2)}\n')
  return found


def _write(path: str, text: str) -> None:
  if folder := os.path.dirname(path):
    paths.make_folder(folder)
  paths.write(path, text.encode())


def _settings(asking: Asking) -> dict[str, Any]:
  """What the scores depend on, beside the model and the tasks."""
  found = {name: getattr(asking, name) for name in SETTINGS}
  found |= {name: getattr(asking.options, name) for name in OPTIONS}
  return {k: x for k, x in found.items() if k not in ('batch', 'task_folder')}


def _begun(model, settings, out):
  """What a file of scores holds, or the beginning of one."""
  origin = {'model': model.folder, 'step': getattr(model, 'step', None)}
  origin['part'] = getattr(model, 'part', 'params')
  new = origin | {'settings': settings, 'tasks': {}}
  if not out or not paths.exists(out):
    return new
  try:
    kept = json.loads(paths.read(out))
    before = {'model': kept['model'], 'step': kept['step']}
    before |= {'part': kept.get('part', 'params'), **kept['settings']}
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'--out={out} is no file of scores. Name another file.'
    ) from error
  for name, value in (origin | settings).items():
    if before.get(name) != value:
      raise ValueError(
        f'--out={out} has scores with {name}={before.get(name)!r}, not '
        f'{value!r}. Name another file.'
      )
  return kept


def table(scores: Scores) -> str:
  """A line for each number of each task."""
  rows = [
    (task, name, f'{value:,}' if isinstance(value, int) else f'{value:.4f}')
    for task, metrics in scores.items()
    for name, value in metrics.items()
  ]
  widths = [max(len(row[n]) for row in rows) for n in range(3)]
  lines, last = [], None
  for task, name, value in rows:
    shown = task if task != last else ''
    lines.append(
      f'{shown:{widths[0]}}  {name:{widths[1]}}  {value:>{widths[2]}}'
    )
    last = task
  return '\n'.join(lines)
