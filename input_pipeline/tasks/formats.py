"""How examples are written for text-to-text models, and how answers are read.

The strings are those of T5's published code (Raffel et al. 2020, 2.4 and
appendix D).
"""

import math
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
  """The prefix, then the name and the text of each field.

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


def numbered(
  example: Example, *, prefix: str, fields: Sequence[str]
) -> list[tuple[str, str]]:
  """The joined fields, and the number in its shortest decimal form.

  >>> numbered({'a': 'x', 'label': 2.75}, prefix='heat', fields=['a'])
  [('heat a: x', '2.75')]
  """
  number = example['label']
  if number is None:
    target = SECRET
  else:
    target = np.format_float_positional(number, trim='-')
  return [(joined(example, prefix, fields), target)]


def as_written(text: str, example: Example) -> str:
  """The model's text is the prediction."""
  return text


def as_class(
  text: str, example: Example, *, labels: Sequence[str]
) -> str | None:
  """The class whose name is exactly the text; None if there is none."""
  return text if text in labels else None


def as_number(text: str, example: Example) -> float | None:
  """The text as a number; None if it is not one, or not finite."""
  try:
    number = float(text)
  except ValueError:
    return None
  return number if math.isfinite(number) else None


def pad_punctuation(text: str) -> str:
  """Puts spaces around ASCII punctuation; makes several spaces one.

  >>> pad_punctuation('(J.S.)  Bach')
  ' ( J . S . ) Bach'
  """
  return _SPACES.sub(' ', _PUNCTUATION.sub(r' \1 ', text))


def join_spaced(*texts: str) -> str:
  """Joins texts with a space; makes several spaces inside them one."""
  return _SPACES.sub(' ', ' '.join(texts))
