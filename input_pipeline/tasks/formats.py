"""How examples are written for text-to-text models, and how answers are read.

As the code published with T5 writes them (Raffel et al. 2020, 2.4 and
appendix D).
"""

import re
from collections.abc import Sequence

import numpy as np

from input_pipeline.tasks.task import Example

SECRET = '<unk>'  # the target of an example without a label
_PUNCTUATION = re.compile(r'([!-/:-@\[-`{-~])')
_SPACES = re.compile(r'[\t\n\f\r ]+')


def texts(example: Example, *, fields: Sequence[str]) -> tuple[str, ...]:
  """The texts that an encoder reads: some fields of the example."""
  return tuple(example[name] for name in fields)


def joined(example: Example, prefix: str, fields: Sequence[str]) -> str:
  """The prefix, and of each field its name and its text.

  >>> joined({'question': 'Why?', 'answer': 'So.'}, 'qa', ['question'])
  'qa question: Why?'
  """
  return ' '.join([prefix, *(f'{name}: {example[name]}' for name in fields)])


def classified(
  example: Example, *, prefix: str, fields: Sequence[str]
) -> list[tuple[str, str]]:
  """The joined fields, and the name of the class."""
  return [(joined(example, prefix, fields), example['label'] or SECRET)]


def scored(
  example: Example, *, prefix: str, fields: Sequence[str]
) -> list[tuple[str, str]]:
  """The joined fields, and the number rounded to the nearest 0.2 (STS-B).

  >>> scored({'a': 'x', 'label': 2.75}, prefix='stsb', fields=['a'])
  [('stsb a: x', '2.8')]
  """
  score = example['label']
  if score is None:
    target = SECRET
  else:
    target = f'{np.round(np.float32(score) * 5) / np.float32(5):.1f}'
  return [(joined(example, prefix, fields), target)]


def as_written(text: str, example: Example) -> str:
  """The model's text is the prediction."""
  return text


def as_class(
  text: str, example: Example, *, labels: Sequence[str]
) -> str | None:
  """The class that the text is, to the letter; None if it is none."""
  return text if text in labels else None


def as_number(text: str, example: Example) -> float | None:
  """The number that the text is; None if it is none."""
  try:
    return float(text)
  except ValueError:
    return None


def pad_punctuation(text: str) -> str:
  """Spaces around every ASCII punctuation mark; one space for several.

  >>> pad_punctuation('(J.S.)  Bach')
  ' ( J . S . ) Bach'
  """
  return _SPACES.sub(' ', _PUNCTUATION.sub(r' \1 ', text))


def join_spaced(*texts: str) -> str:
  """Texts joined by one space, and one space for several inside them."""
  return _SPACES.sub(' ', ' '.join(texts))
