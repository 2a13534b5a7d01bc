"""Trains a small GPT-2 on texts of your own, from Python.

  python examples/train_on_texts.py --workdir=W --texts='books/*.txt'

A file is a document; every 40th is held out. Without --texts it trains on the
documentation inside the installed packages.
"""

import argparse

from configs import gpt2
from train import evaluate_run, train


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--texts', default='')
  parser.add_argument('--steps', type=int, default=100)
  arguments = parser.parse_args()

  config = gpt2.get_config('tiny')
  config.train.steps = config.eval.every = arguments.steps
  config.eval.samples = 0
  config.checkpoint.every = arguments.steps
  config.schedule.warmup_steps = arguments.steps // 10
  if arguments.texts:
    config.data.source = f'textfile:{arguments.texts}'
    config.data.holdout = 40
  train(config, arguments.workdir)
  print(evaluate_run(arguments.workdir))


if __name__ == '__main__':
  main()
