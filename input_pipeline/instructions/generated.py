"""Tasks that a program makes: words and numbers, with nothing to download.

A tiny model can learn them, so that a whole instruction tuning can be run and
tested on any machine. Examples are drawn from a seed of the task and the split.
"""

import functools
import zlib
from collections.abc import Callable

import numpy as np

from input_pipeline.instructions.wording import Fields, Wording, pairs
from input_pipeline.tasks import metrics
from input_pipeline.tasks.task import Example, Task

SIZES = {'train': 4000, 'validation': 100}
_WORDS = (
  *('apple', 'bird', 'boat', 'book', 'box', 'bread', 'bridge', 'cat', 'chair'),
  *('cloud', 'coat', 'corn', 'cup', 'desk', 'dog', 'door', 'dream', 'drum'),
  *('ear', 'egg', 'eye', 'farm', 'fire', 'fish', 'flag', 'flower', 'fox'),
  *('garden', 'gate', 'glass', 'grass', 'hand', 'hat', 'hill', 'horse'),
  *('house', 'ice', 'island', 'jar', 'key', 'king', 'lake', 'lamp', 'leaf'),
  *('letter', 'light', 'map', 'milk', 'moon', 'mouse', 'nest', 'night'),
  *('ocean', 'oil', 'paper', 'pear', 'pen', 'plate', 'queen', 'rain', 'ring'),
  *('river', 'road', 'rock', 'roof', 'rope', 'salt', 'sand', 'ship', 'shoe'),
  *('sky', 'snow', 'song', 'spoon', 'star', 'stone', 'storm', 'street'),
  *('sun', 'table', 'tea', 'tent', 'tower', 'train', 'tree', 'valley', 'wall'),
  *('water', 'well', 'wheel', 'wind', 'window', 'wolf', 'wood', 'yard'),
)
_NO_YES = 'no', 'yes'


# ---- What is drawn: texts of the gaps, and the answer ----
def _list(rng):
  return [str(x) for x in rng.choice(_WORDS, rng.integers(2, 5), False)]


def _on_words(rng, answer):
  words = _list(rng)
  return {'words': ' '.join(words)}, answer(words)


def _contains(rng):
  words = _list(rng)
  word = str(rng.choice(words if rng.random() < 0.5 else _WORDS))
  return {'words': ' '.join(words), 'word': word}, _NO_YES[word in words]


def _begins(rng):
  words = _list(rng)
  word = words[int(rng.integers(2))]
  return {'words': ' '.join(words), 'word': word}, _NO_YES[word == words[0]]


def _pair(rng):
  return (int(x) for x in rng.choice(100, 2, False))


def _sum(rng):
  a, b = (int(x) for x in rng.integers(0, 10, 2))
  return {'a': str(a), 'b': str(b)}, str(a + b)


def _difference(rng):
  a, b = (int(x) for x in rng.integers(0, 10, 2))
  return {'a': str(a + b), 'b': str(b)}, str(a)


def _larger(rng):
  a, b = _pair(rng)
  return {'a': str(a), 'b': str(b)}, str(max(a, b))


def _more(rng):
  a, b = _pair(rng)
  return {'a': str(a), 'b': str(b)}, _NO_YES[a > b]


def _even(rng):
  a = int(rng.integers(100))
  return {'a': str(a)}, _NO_YES[a % 2 == 0]


def _words(answer):
  return functools.partial(_on_words, answer=answer)


# name: what is drawn, prompts, inverted.
_MADE = {
  'words/copy': (
    _words(' '.join),
    ('Repeat these words: {words}', '{words}\nSay that again.'),
    (),
  ),
  'words/reverse': (
    _words(lambda words: ' '.join(words[::-1])),
    (
      'Write these words from the last to the first: {words}',
      '{words}\nTurn the order of these words round.',
      'Backwards, word by word: {words}',
    ),
    (('These words were turned round: {answer}. Undo it.', '{words}'),),
  ),
  'words/sort': (
    _words(lambda words: ' '.join(sorted(words))),
    (
      'Put these words into the order of the alphabet: {words}',
      '{words}\nSort them from A to Z.',
    ),
    (),
  ),
  'words/first': (
    _words(lambda words: words[0]),
    ('What is the first word? {words}', '{words}\nName the word that begins.'),
    (('Write some words, of which the first is "{answer}".', '{words}'),),
  ),
  'words/last': (
    _words(lambda words: words[-1]),
    ('What is the last word? {words}', '{words}\nName the word at the end.'),
    (('Write some words, of which the last is "{answer}".', '{words}'),),
  ),
  'words/count': (
    _words(lambda words: str(len(words))),
    ('How many words are these? {words}', '{words}\nCount the words.'),
    (('Write {answer} words.', '{words}'),),
  ),
  'words/contains': (
    _contains,
    (
      '{words}\nIs "{word}" one of these words?',
      'Look for the word {word}. Is it here? {words}',
    ),
    (),
  ),
  'words/begins': (
    _begins,
    (
      '{words}\nIs "{word}" the first of these words?',
      'Do these words begin with {word}? {words}',
    ),
    (),
  ),
  'numbers/sum': (
    _sum,
    ('What is {a} + {b}?', 'Add {a} and {b}.', '{a} plus {b} is'),
    (('Give two numbers whose sum is {answer}.', '{a} + {b}'),),
  ),
  'numbers/difference': (
    _difference,
    ('What is {a} - {b}?', 'Take {b} away from {a}.', '{a} minus {b} is'),
    (('Give two numbers whose difference is {answer}.', '{a} - {b}'),),
  ),
  'numbers/larger': (
    _larger,
    ('Which is larger, {a} or {b}?', '{a}, {b}\nName the larger number.'),
    (),
  ),
  'numbers/more': (
    _more,
    ('Is {a} more than {b}?', 'Compare {a} to {b}. Is the first more?'),
    (),
  ),
  'numbers/even': (
    _even,
    ('Is {a} an even number?', 'Can {a} be halved without a remainder?'),
    (('Is it even? Write a number for which it is "{answer}".', '{a}'),),
  ),
}
_OPTIONS = {
  **dict.fromkeys(
    ('words/contains', 'words/begins', 'numbers/more', 'numbers/even'),
    lambda texts: _NO_YES,
  ),
  'numbers/larger': lambda texts: (texts['a'], texts['b']),
}


def make(split: str, *, name: str, draw: Callable) -> list[Example]:
  """The examples of a split; none of the validation is in the training."""
  rng = np.random.default_rng(zlib.crc32(f'{name} {split}'.encode()))
  seen = set()
  if split != 'validation':  # what is evaluated comes first
    own = make('validation', name=name, draw=draw)
    seen = {content(example) for example in own}
  found = []
  for _ in range(SIZES[split]):
    texts, answer = draw(rng)
    example = {**texts, 'label': answer}
    if content(example) not in seen:
      found.append(example | {'idx': len(found)})
  return found


def content(example: Example) -> tuple:
  """What two examples share if they are the same but for their number."""
  return tuple(sorted((k, v) for k, v in example.items() if k != 'idx'))


def _fields(example, *, name):
  texts = {k: v for k, v in example.items() if k not in ('label', 'idx')}
  options = _OPTIONS.get(name, lambda texts: ())(texts)
  return Fields(texts, example['label'], options)


WORDINGS = {
  name: Wording(functools.partial(_fields, name=name), prompts, inverted)
  for name, (_, prompts, inverted) in _MADE.items()
}
TASKS = {
  name: Task(
    name=name,
    kind='text',
    splits={'train': 'train', 'validation': 'validation'},
    files={},
    read=None,
    make=functools.partial(make, name=name, draw=draw),
    text_to_text=functools.partial(pairs, wording=WORDINGS[name]),
    decode=lambda text, example: text.strip(),
    metrics=metrics.accuracy,
  )
  for name, (draw, *_) in _MADE.items()
}
