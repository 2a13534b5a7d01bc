"""Does GRPO raise what a taught model gets right? Word problems with sums.

  python -m benchmarks.arithmetic --workdir=W

A tiny decoder is taught with a few problems, and then writes answers to many
others, which are worth 1 where they are right and 0 where they are wrong: no
target is shown. It learns from them by GRPO (and, with --methods, by RLOO or
PPO). Exact match is that of the likeliest answers to 300 problems that are in
neither set. `taught on` goes on with teaching for as many steps, on the same
problems with their answers: what rewards alone are to be seen beside.

Each command is printed, and can be typed by hand. One that has ended is not run
again. The table is printed in the end, and benchmarks/results/arithmetic.json
is written.
"""

from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import arithmetic_task, machine, pages
from benchmarks.finetuning import run
from configs.commands import command
from train.reporting.metrics import read_metrics

HERE = Path(__file__).resolve()
TASKS = HERE.with_name('arithmetic_task.py')
COUNTS = {'few': 400, 'train': 10_000, 'validation': 300}
MOST = 9  # the largest number in a problem
METRIC = 'eval/sums/word_problems/exact_match'
METHODS = 'grpo', 'rloo', 'ppo'
TAUGHT, STEPS = 200, 600

MODEL = {
  'model.embed_dim': 64,
  'model.mlp_dim': 192,
  'model.heads': 4,
  'model.kv_heads': 4,
  'model.head_dim': 16,
  'model.rope_dim': 16,
  'model.vocab_size': 320,
  'data.tokenizer_kind': 'byte_bpe',  # a number is a token
}
TEACHING = {
  'data.objective': 'text_to_text',
  'data.holdout': 0,
  'data.pack': False,
  'data.length': 20,
  'data.streams': 1,
  'data.block': 2**20,
  'data.batch': 64,
  'schedule.learning_rate': 2e-3,
  'train.steps': TAUGHT,
  'eval.every': TAUGHT,
  'eval.samples': 4,
  'checkpoint.every': TAUGHT,
}
ALIGNING = {
  'data.length': 20,
  'data.batch': 32,
  'align.samples': 8,
  'align.answer_length': 3,
  'schedule.learning_rate': 3e-4,
  'train.steps': STEPS,
  'eval.every': 100,
  'eval.samples': 4,
  'checkpoint.every': 100,
}
OWN = {
  'grpo': {'align.beta': 0.0},
  'rloo': {'align.beta': 0.0},
  'ppo': {'align.beta': 0.01, 'align.epochs': 2},
}


def commands(folder: Path, methods: list[str]) -> dict[str, list[str]]:
  """Name of a step -> its arguments after `python -m`, in their order."""
  data = {'data.task_folder': folder / 'data'}
  few, many = ({'data.source': f'task:{TASKS}:{x}'} for x in ('FEW', 'TASK'))
  found = {
    'taught': [
      'train', '--config=llama.py:tiny', f'--workdir={folder}/taught',
      *_flags(MODEL | TEACHING | data | few),
    ],
    'taught on': [
      'train', '--config=llama.py:tiny', f'--workdir={folder}/taught_on',
      f'--init_from={folder}/taught',
      *_flags(MODEL | TEACHING | data | few | {
        'train.steps': STEPS, 'eval.every': STEPS, 'checkpoint.every': STEPS,
      }),
    ],
  }  # fmt: skip
  for method in methods:
    found[method] = [
      'train.align', f'--config=align/{method}.py:size=tiny',
      f'--from={folder}/taught', f'--workdir={folder}/{method}',
      *_flags(data | many | ALIGNING | OWN[method]),
    ]  # fmt: skip
  return found


def _flags(keys):
  return [f'--config.{key}={value}' for key, value in keys.items()]


def measured(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
  """Exact match at each evaluation, and the rewards of a run."""
  rows = list(read_metrics(str(folder)))
  found = {
    'exact_match': {x['step']: round(x[METRIC], 1) for x in rows if METRIC in x}
  }
  for name in 'reward', 'kl', 'length', 'gap':
    key, every = f'train/{name}', 50
    values = [(x['step'], x[key]) for x in rows if key in x]
    if values:
      found[name] = {
        first + every: round(sum(x for _, x in part) / len(part), 5)
        for first in range(0, values[-1][0], every)
        if (part := [v for v in values if first < v[0] <= first + every])
      }
  for key in 'seconds', 'cpu_seconds', 'load':
    found[key] = round(record[key], 1)
  return found


def table(found: dict[str, dict[str, Any]]) -> str:
  """Lines of Markdown: what each run gets right in the end."""
  lines = [
    (
      '| run | steps | exact match, % | mean reward, first and last 50 steps | '
      'KL to the start, nats | CPU seconds |'
    ),
    '|---|---|---|---|---|---|',
  ]
  for name, x in found.items():
    steps, last = [*x['exact_match'].items()][-1]
    rewards, kl = [*x.get('reward', {}).values()], x.get('kl', {})
    shown = f'{rewards[0]:.2f}, {rewards[-1]:.2f}' if rewards else ''
    away = f'{[*kl.values()][-1]:.2f}' if kl else ''
    lines.append(
      f'| {name} | {steps} | {last:.1f} | {shown} | {away} | '
      f'{x["cpu_seconds"]:.0f} |'
    )
  return '\n'.join(lines)


def main():
  folder = Path(_WORKDIR.value).resolve()
  arithmetic_task.write(folder / 'data', COUNTS, MOST, seed=0)
  results = {}
  for name, args in commands(folder, _METHODS.value).items():
    place = name.replace(' ', '_')
    results[name] = measured(folder / place, run(place, args, folder))
  print(table(results))
  known = ['taught', 'taught on', *METHODS]
  machine.write(Path(_OUT.value), known, results)
  pages.write(
    _REPORT.value,
    [folder / name.replace(' ', '_') for name in results],
    'Sums in words: taught, and learned from rewards',
  )


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string(
    'workdir', None, 'The folder of all runs.', required=True
  )
  _METHODS = flags.DEFINE_list('methods', ['grpo'], f'Of {", ".join(METHODS)}.')
  _OUT = flags.DEFINE_string(
    'out', str(HERE.parent / 'results' / 'arithmetic.json'), 'The results.'
  )
  _REPORT = flags.DEFINE_string(
    'report',
    str(pages.PLACE / 'arithmetic.html'),
    "Their page; '': none.",
  )
  command.run(main)
