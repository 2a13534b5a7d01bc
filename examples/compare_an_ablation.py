"""Trains a system and an ablation of it, and compares their held-out losses.

  python examples/compare_an_ablation.py --folder=RUNS --change=position=rope

RUNS/base and RUNS/ablation are the workdirs. Both train on the documentation
inside the installed packages, or on --texts='books/*.txt', a file a document.
"""

import argparse
import json
import os

from configs import tree
from train import train


def losses(workdir: str) -> dict[int, float]:
  """Step -> held-out loss of a run."""
  with open(os.path.join(workdir, 'metrics.jsonl')) as file:
    rows = [json.loads(line) for line in file]
  return {x['step']: x['eval/loss'] for x in rows if 'eval/loss' in x}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', required=True)
  parser.add_argument('--system', default='gpt2')
  parser.add_argument('--change', default='position=rope')
  parser.add_argument('--texts', default='')
  parser.add_argument('--steps', type=int, default=100)
  arguments = parser.parse_args()

  systems = {
    'base': f'{arguments.system}:tiny',
    'ablation': f'ablations:{arguments.system}:tiny,{arguments.change}',
  }
  print(tree.show_difference(*systems.values()))
  found = {}
  for name, system in systems.items():
    config = tree.config_of(system)
    config.train.steps = config.checkpoint.every = arguments.steps
    config.eval.every = arguments.steps
    config.eval.samples = 0
    config.schedule.warmup_steps = arguments.steps // 10
    if arguments.texts:
      config.data.source = f'textfile:{arguments.texts}'
      config.data.holdout = 40
    workdir = os.path.join(arguments.folder, name)
    train(config, workdir)
    found[name] = losses(workdir)

  for step in found['base']:
    print(
      f'step {step}: {found["base"][step]:.4f} base, '
      f'{found["ablation"][step]:.4f} with {arguments.change}'
    )


if __name__ == '__main__':
  main()
