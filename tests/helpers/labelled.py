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


def sentence(rng: random.Random, label: str) -> str:
  """A few words, one of them of praise or of blame."""
  words = rng.choices(OTHER, k=rng.randint(2, 12))
  words.insert(rng.randint(0, 2), rng.choice(GOOD if label == 'good' else BAD))
  return ' '.join(words)


def write_task(folder: Path, count: int = 400, held_out: int = 24) -> str:
  """A table of short texts with a word of praise or of blame; the source."""
  folder.mkdir(exist_ok=True)
  rng = random.Random(0)
  for name, size in ('train', count), ('dev', held_out):
    labels = rng.choices(['bad', 'good'], k=size)
    lines = [f'{sentence(rng, label)}\t{label}' for label in labels]
    table = '\n'.join(['sentence\tlabel', *lines])
    (folder / f'{name}.tsv').write_text(f'{table}\n')
  return (
    f'task:tsv:{folder}/train.tsv,validation={folder}/dev.tsv,text=sentence,'
    'name=praise'
  )


def write_text(folder: Path, count: int = 300) -> str:
  """Documents of such texts without labels; the source."""
  rng = random.Random(1)
  documents = [
    '. '.join(sentence(rng, rng.choice(['bad', 'good'])) for _ in range(4))
    for _ in range(count)
  ]
  path = folder / 'text.txt'
  path.write_text('\n\n'.join(documents))
  return f'text:{path}'
