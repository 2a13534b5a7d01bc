"""Word problems, answered after a chain of thought (Wei et al. 2022).

The examples are questions of GSM8K with their worked answers, which end in 'The
answer is N.' (The paper's own eight examples are not among its files; give them
as a file, see docs/evaluation.md.)
"""

import re
from collections.abc import Iterator
from fractions import Fraction

from input_pipeline.prompted.task import Item, Prompted
from input_pipeline.tasks import files

_SAYS = 'The answer is'
_NUMBER = re.compile(
  r'(?:(?<![\w.)])-)?\$?(?:\d+/\d+(?!\.)|\d[\d,]*(?:\.\d+)?|\.\d+)'
)


def number(text: str) -> Fraction | None:
  """The number that a written answer gives; None: it gives none.

  It is the first one after the last 'answer is', or else the last one of the
  text. Signs of currency, and commas between digits, do not count.

  >>> number(' 3 + 4 = 7. The answer is $7.')
  Fraction(7, 1)
  """
  text = text.replace('\u2212', '-')  # a minus sign
  said = re.split(r'(?i)answer is:?', text)
  found = _NUMBER.findall(said[-1]) if len(said) > 1 else []
  chosen = found[0] if found else (_NUMBER.findall(text) or [None])[-1]
  if chosen is None:
    return None
  chosen = chosen.replace('$', '').replace(',', '')
  try:
    return Fraction(chosen)
  except (ValueError, ZeroDivisionError):
    return None


def _question(text: str, thoughts: str, answer: str) -> Item:
  thoughts = f' {thoughts}' * bool(thoughts)
  return Item(((f'Q: {text}\nA:', f'{thoughts} {_SAYS} {answer}.'),))


def _shown(value: float) -> str:
  """504.0 -> '504', 2.5 -> '2.5'."""
  return str(int(value)) if value == int(value) else str(value)


# ---- GSM8K (Cobbe et al. 2021) ----
def read_gsm8k(path: str) -> Iterator[Item]:
  """Questions; a worked answer ends in '#### N' and has <<calculations>>."""
  for place, row in files.jsonl(path, ('question', 'answer')):
    thoughts, mark, answer = row['answer'].partition('####')
    if not mark or number(answer) is None:
      raise ValueError(f'{place}: the answer does not end in "#### N".')
    thoughts = re.sub(r'<<.*?>>', '', thoughts)
    thoughts = ' '.join(
      line.strip() if line.strip().endswith('.') else f'{line.strip()}.'
      for line in thoughts.splitlines()
      if line.strip()
    )
    yield _question(row['question'].strip(), thoughts, answer.strip())


# ---- SVAMP (Patel et al. 2021), and MAWPS and ASDiv-A as it has them ----
def read_svamp(path: str) -> Iterator[Item]:
  for n, row in enumerate(files.parsed(path), 1):
    place = f'{path}, problem {n}'
    files.checked(place, row, ('Body', 'Question', 'Answer'))
    body = row['Body'].strip()
    body += '' if body.endswith(('.', '?', '!', ',')) else '.'
    answer = files.number(place, row['Answer'], 'Answer')
    yield _question(f'{body} {row["Question"].strip()}', '', _shown(answer))


def read_folds(path: str) -> Iterator[Item]:
  """A table whose questions have number0, number1, ... for their numbers."""
  for place, row in files.csv_rows(path, ('Question', 'Numbers', 'Answer')):
    text = row['Question']
    for n, value in reversed([*enumerate(row['Numbers'].split())]):
      shown = _shown(files.number(place, value, 'Numbers'))
      text = text.replace(f'number{n}', shown)
    if 'number' in text and re.search(r'number\d', text):
      raise ValueError(f'{place}: a number of the question is missing.')
    text = re.sub(r' ([.,?!])', r'\1', text.strip())
    answer = files.number(place, row['Answer'], 'Answer')
    yield _question(text, '', _shown(answer))


def _task(name, read, split, *names, **more) -> Prompted:
  return Prompted(
    name=name,
    kind='answer',
    files={split: names, **more.pop('files', {})},
    read=read,
    asked=split,
    stop=('\n\n', 'Q:'),
    length=256,
    extract=number,
    **more,
  )


TASKS = (
  _task(
    'gsm8k', read_gsm8k, 'test', 'test.jsonl', 'gsm8k/test.jsonl',
    'grade_school_math/data/test.jsonl',
    files={
      'train': (
        *('train.jsonl', 'gsm8k/train.jsonl'),
        'grade_school_math/data/train.jsonl',
      )
    },
  ),
  _task(
    'svamp', read_svamp, 'test', 'SVAMP.json', 'svamp/SVAMP.json',
    teacher='gsm8k',
  ),
  # Each problem is in one fold's dev.csv.
  _task(
    'mawps', read_folds, 'test', 'cv_mawps/fold*/dev.csv',
    'data/cv_mawps/fold*/dev.csv', teacher='gsm8k',
  ),
  _task(
    'asdiv', read_folds, 'test', 'cv_asdiv-a/fold*/dev.csv',
    'data/cv_asdiv-a/fold*/dev.csv', teacher='gsm8k',
  ),
)  # fmt: skip
