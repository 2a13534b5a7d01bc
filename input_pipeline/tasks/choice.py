"""Multiple choice: SWAG has four continuations, RACE four answers.

Zellers et al. 2018; Lai et al. 2017. Neither is among T5's tasks: their
text-to-text form is ours, in T5's style.
"""

import functools
from collections.abc import Iterator

from input_pipeline.tasks import files, formats, metrics
from input_pipeline.tasks.task import Example, Task

CHOICES = ('choice1', 'choice2', 'choice3', 'choice4')
LETTERS = ('A', 'B', 'C', 'D')  # RACE's own names


# ---- SWAG ----
def read_swag(path: str) -> Iterator[Example]:
  """Examples of a SWAG file: CSV, or JSONL with the same names."""
  endings = [f'ending{n}' for n in range(4)]
  needed = ('sent1', 'sent2', *endings)
  rows = files.csv_rows if path.endswith('.csv') else files.jsonl
  for n, (place, row) in enumerate(rows(path, needed)):
    yield {
      'sent1': row['sent1'],
      'sent2': row['sent2'],
      'endings': [row[name] for name in endings],
      'label': files.class_name(place, row.get('label'), CHOICES),
      'idx': n,
    }


def swag_texts(example: Example) -> list[tuple[str, str]]:
  """The first sentence beside the second one with each ending."""
  return [
    (example['sent1'], f'{example["sent2"]} {ending}')
    for ending in example['endings']
  ]


def swag_text(example: Example) -> list[tuple[str, str]]:
  choices = zip(CHOICES, example['endings'], strict=True)
  text = ' '.join(f'{name}: {ending}' for name, ending in choices)
  context = f'{example["sent1"]} {example["sent2"]}'
  target = example['label'] or formats.SECRET
  return [(f'swag {text} context: {context}', target)]


SWAG = Task(
  name='swag',
  kind='choice',
  splits={'train': 'train', 'validation': 'validation', 'test': 'test'},
  files={
    split: tuple(
      f'{folder}{name}.{ending}'
      for ending in ('csv', 'json')
      for folder in ('swag/', 'SWAG/', 'data/', '')
    )
    for split, name in (
      *(('train', 'train'), ('validation', 'val'), ('test', 'test')),
    )
  },
  read=read_swag,
  labels=CHOICES,
  texts=swag_texts,
  text_to_text=swag_text,
  decode=functools.partial(formats.as_class, labels=CHOICES),
  lengths=(512, 8),
  metrics=metrics.accuracy,
)


# ---- RACE ----
def read_race(path: str) -> Iterator[Example]:
  """The questions of an article of RACE, a JSON file."""
  needed = ('article', 'questions', 'options', 'answers', 'id')
  article = files.checked(path, files.parsed(path), needed)
  record = {'example_id': article['id'], **article}
  try:
    yield from convert_race(record)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def convert_race(record: Example) -> Iterator[Example]:
  """TFDS's record of an article -> an example for each question."""
  parts = [record[name] for name in ('questions', 'options', 'answers')]
  if len({len(part) for part in parts}) > 1:
    numbers = ', '.join(str(len(part)) for part in parts)
    raise ValueError(
      'there must be as many questions as lists of options and answers, not'
      f' {numbers}: use the file as published.'
    )
  for question, options, answer in zip(*parts, strict=True):
    if len(options) != 4 or answer not in LETTERS:
      raise ValueError(
        f'{question!r} has {len(options)} options and the answer {answer!r}. It'
        ' must have 4, and one of the letters A to D.'
      )
    yield {
      'article': record['article'],
      'question': question,
      'options': list(options),
      'label': answer,
      'example_id': record['example_id'],
    }


def race_texts(example: Example) -> list[tuple[str, str]]:
  """The article beside the question with each option, put into its gap."""
  question = example['question']
  return [
    (
      example['article'],
      question.replace('_', option)
      if '_' in question
      else f'{question} {option}',
    )
    for option in example['options']
  ]


def race_text(example: Example) -> list[tuple[str, str]]:
  choices = zip(LETTERS, example['options'], strict=True)
  text = ' '.join(f'{name}: {option}' for name, option in choices)
  text = f'race question: {example["question"]} {text}'
  return [(f'{text} article: {example["article"]}', example['label'])]


def _race(name: str, parts: tuple[str, ...], pattern: str) -> Task:
  return Task(
    name=f'race/{name}',
    kind='choice',
    tfds=tuple(f'race/{part}' for part in parts),
    splits={'train': 'train', 'validation': 'dev', 'test': 'test'},
    files={
      split: (f'RACE/{folder}/{pattern}/*.txt', f'{folder}/{pattern}/*.txt')
      for split, folder in (
        *(('train', 'train'), ('validation', 'dev'), ('test', 'test')),
      )
    },
    read=read_race,
    convert=convert_race,
    labels=LETTERS,
    texts=race_texts,
    length=512,
    text_to_text=race_text,
    decode=functools.partial(formats.as_class, labels=LETTERS),
    lengths=(512, 8),
    metrics=metrics.accuracy,
  )


RACE = _race('all', ('high', 'middle'), '*')
RACE_HIGH = _race('high', ('high',), 'high')
RACE_MIDDLE = _race('middle', ('middle',), 'middle')

TASKS = (SWAG, RACE, RACE_HIGH, RACE_MIDDLE)
