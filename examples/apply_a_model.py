"""Applies a trained decoder to a text: which tokens come next, and how likely?

  python examples/apply_a_model.py W 'To be or not to'

W is a workdir, or a checkpoint in Hugging Face layout.
"""

import argparse
import os

import numpy as np

from train import open_published, open_run


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('folder')
  parser.add_argument('text')
  arguments = parser.parse_args()

  is_run = os.path.isdir(os.path.join(arguments.folder, 'checkpoints'))
  run = (open_run if is_run else open_published)(arguments.folder)
  found = run.apply([arguments.text])
  logits = found['logits'][0].astype(np.float64)
  shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
  shares /= shares.sum(axis=-1, keepdims=True)

  tokens = found['tokens'][0]
  for at, token in enumerate(tokens[1:], 1):
    print(f'{run.tokenizer.piece(token)!r:20} {shares[at - 1, token]:.4f}')
  print('Next:')
  for token in np.argsort(-shares[-1])[:5]:
    print(f'{run.tokenizer.piece(token)!r:20} {shares[-1, token]:.4f}')


if __name__ == '__main__':
  main()
