"""What tiny models learn from examples in the prompt, by their number.

  python -m benchmarks.in_context --folder=RUNS [--only=copying,linear,...]

Trains each model of RUNS on each kind of prompts (configs/in_context.py), with
one seed, and scores it on held-out prompts: squared error or accuracy by the
number of examples, beside the best possible predictor. A run that is in
--folder already is not made again, and one that was stopped resumes.

Writes results, and a picture of them. A score better than the best possible is
an error: the model would see what it must predict.
"""

import itertools
import json
import os
from pathlib import Path

from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks import machine
from configs import in_context as recipes
from configs.commands import command
from train import loop
from train.evaluation import in_context
from train.runs import history, opening

HERE = Path(__file__).resolve()
# prompts: (model, layers) of each run. One layer of attention is the control:
# copying takes two.
RUNS = {
  'copying': (('transformer', 2), ('transformer', 1), ('rwkv', 2)),
  'classification': (('transformer', 2), ('rwkv', 2)),
  'linear': (('transformer', 3), ('rwkv', 3)),
}
BATCHES = 32  # of 64 prompts each are scored
TITLES = {
  'copying': ('copying', 'times the symbol came before', 'accuracy'),
  'classification': (
    'new classes', 'examples of the class before', 'accuracy',
  ),
  'linear': ('linear functions', 'examples before', 'squared error / I'),
}  # fmt: skip
# The most examples that are shown. Beyond them only some prompts have any:
# those of short texts, or of a class that comes often.
SHOWN = {'copying': 3, 'classification': 4, 'linear': 9}

_ONLY = flags.DEFINE_list('only', [], f'Of {", ".join(RUNS)}; none: all.')
_FOLDER = flags.DEFINE_string(
  'folder', None, 'Where the runs are, or will be.', required=True
)
_STEPS = flags.DEFINE_integer('steps', 0, "Of a run; 0: the config's.")
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'in_context.json'), 'JSON of results.'
)
_PLOT = flags.DEFINE_string(
  'plot', str(HERE.parent.parent / 'docs' / 'in_context.png'), 'The picture.'
)


def measure(prompts, model, layers):
  """The scores of one run, which is trained if it is not there."""
  arg = f'prompts={prompts},model={model},layers={layers}'
  config = recipes.get_config(arg)
  config.train.steps = _STEPS.value or config.train.steps
  folder = os.path.join(_FOLDER.value, f'{prompts}_{model}_{layers}')
  if config.train.steps not in history.saved_steps(folder):
    loop.train(config, folder)
  run = opening.open_run(folder)
  batches = opening.open_data(run).evaluation(run.setup.rows, config.data.batch)
  found = in_context.score(run, itertools.islice(batches, BATCHES))
  return {'model': model, 'layers': layers, 'steps': run.step} | found


def draw(results, path):
  """A panel for each kind of prompts, a curve for each model."""
  figure = Figure(figsize=(4 * len(results), 3.4), dpi=120)
  FigureCanvasAgg(figure)
  figure.set_layout_engine('constrained')
  for number, (prompts, found) in enumerate(results.items(), 1):
    axes = figure.add_subplot(1, len(results), number)
    title, across, up = TITLES[prompts]
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(color='0.92')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[['top', 'right']].set_visible(False)
    for run in found['runs']:
      rows = run['shots'][: SHOWN[prompts] + 1]
      name = f'{run["model"]}, layers: {run["layers"]}'
      x, y = ([row[key] for row in rows] for key in ('shots', 'score'))
      axes.plot(x, y, marker='.', label=name)
    best = [row['best'] for row in rows]
    axes.plot(x, best, color='black', linestyle=':', label='best possible')
    axes.legend(frameon=False, fontsize=7)
  figure.savefig(path)
  print(f'Drew {path}')


def table(prompts, runs):
  """The scores as a Markdown table, which docs/in_context.md has."""
  shown, digits = SHOWN[prompts] + 1, 2 if prompts == 'linear' else 3

  def row(name, rows, key):
    numbers = (f'{found[key]:.{digits}f}' for found in rows[:shown])
    return f'| {name} | {" | ".join(numbers)} |'

  lines = [f'| | {" | ".join(map(str, range(shown)))} |', '|---' * (shown + 1)]
  lines[1] += '|'
  for run in runs:
    name = f'{run["model"]}, layers: {run["layers"]}, {run["steps"]:,} steps'
    lines.append(row(name, run['shots'], 'score'))
  lines.append(row('best possible', runs[0]['shots'], 'best'))
  return '\n'.join(lines)


def main():
  for prompts in _ONLY.value or RUNS:
    if prompts not in RUNS:
      raise ValueError(f'--only={prompts}: it must be of {", ".join(RUNS)}.')
    runs = [measure(prompts, *own) for own in RUNS[prompts]]
    print(f'{prompts}: {TITLES[prompts][2]} by {TITLES[prompts][1]}')
    print(table(prompts, runs), flush=True)
    machine.write(Path(_OUT.value), [*RUNS], {prompts: {'runs': runs}})
  draw(json.loads(Path(_OUT.value).read_text()), _PLOT.value)


if __name__ == '__main__':
  command.run(main)
