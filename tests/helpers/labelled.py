"""Small labelled tasks, for tests."""

import random
from pathlib import Path

GOOD = ['fine', 'great', 'lovely', 'superb', 'sweet', 'warm']
BAD = ['awful', 'bleak', 'cold', 'dull', 'grim', 'weak']
OTHER = [
  'a',
  'the',
  'film',
  'story',
  'it',
  'was',
  'is',
  'very',
  'of',
  'and',
  'scene',
  'actor',
]


def write_task(folder: Path, count: int = 64, held_out: int = 24) -> str:
  """A table of short texts with a word of praise or of blame; the source."""
  folder.mkdir(exist_ok=True)
  rng = random.Random(0)
  for name, size in ('train', count), ('dev', held_out):
    lines = ['sentence\tlabel']
    for _ in range(size):
      label = rng.choice(['bad', 'good'])
      words = rng.choices(OTHER, k=rng.randint(2, 12))
      words.insert(
        rng.randint(0, 2), rng.choice(GOOD if label == 'good' else BAD)
      )
      lines.append(f'{" ".join(words)}\t{label}')
    (folder / f'{name}.tsv').write_text('\n'.join(lines) + '\n')
  return (
    f'task:tsv:{folder}/train.tsv,validation={folder}/dev.tsv,text=sentence,'
    'name=praise'
  )
