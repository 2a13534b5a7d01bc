"""Word problems with sums, like SVAMP's, as a labelled task.

`task:benchmarks/arithmetic_task.py:TASK` with --config.data.task_folder=FOLDER,
in which `write` has put train.jsonl and validation.jsonl. A target is the
answer alone: there is no worked solution to learn from.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from input_pipeline.tasks.task import Task

NAMES = 'Ann', 'Ben', 'Cleo', 'Dan', 'Eva', 'Finn', 'Gus', 'Hana'
THINGS = 'apples', 'books', 'coins', 'pens', 'shells', 'stamps', 'toys', 'eggs'
# A story with two numbers, and its answer.
STORIES = (
  ('{a} has {x} {t}. {b} gives {a} {y}.', lambda x, y: x + y),
  ('{a} has {x} {t} and {b} has {y}.', lambda x, y: x + y),
  ('{a} had {x} {t} and lost {y}.', lambda x, y: x - y),
  ('There were {x} {t}. {b} took {y}.', lambda x, y: x - y),
)


def problem(rng: random.Random, most: int) -> dict[str, str]:
  """A question, whose numbers are at most `most`, and its answer."""
  story, answer = rng.choice(STORIES)
  x, y = sorted((rng.randint(1, most) for _ in range(2)), reverse=True)
  a, b = rng.sample(NAMES, 2)
  text = story.format(a=a, b=b, t=rng.choice(THINGS), x=x, y=y)
  return {'question': text, 'answer': str(answer(x, y))}


def write(folder: Path, counts: dict[str, int], most: int, seed: int) -> None:
  """Writes so many problems for each split; none is in two splits."""
  folder.mkdir(parents=True, exist_ok=True)
  rng, seen = random.Random(seed), set()
  for split, count in counts.items():
    rows = []
    while len(rows) < count:
      row = problem(rng, most)
      if row['question'] not in seen:
        seen.add(row['question'])
        rows.append(json.dumps(row))
    (folder / f'{split}.jsonl').write_text('\n'.join(rows) + '\n')


def read(path: str) -> Iterator[dict[str, str]]:
  with open(path, encoding='utf-8') as file:
    yield from map(json.loads, file)


def exact_match(examples, predictions) -> dict[str, float]:
  """The share of answers that are right, in percent."""
  pairs = zip(examples, predictions, strict=True)
  right = sum(x['answer'] == found for x, found in pairs)
  return {'exact_match': 100 * right / len(examples)}


def _task(train: str) -> Task:
  return Task(
    name='sums/word_problems',
    kind='text',
    label='answer',
    splits={'train': 'train', 'validation': 'validation'},
    files={
      'train': (f'{train}.jsonl',),
      'validation': ('validation.jsonl',),
    },
    read=read,
    text_to_text=lambda x: [(x['question'], x['answer'])],
    decode=lambda text, example: text.strip(),
    lengths=(24, 6),
    metrics=exact_match,
  )


FEW = _task('few')  # those that a model is taught with
TASK = _task('train')
