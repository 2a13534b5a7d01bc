"""In-context learning: rows that are prompts of examples, made from the seed.

A prompt has examples of something that is drawn for it alone: a linear
function, a text that repeats, classes. Weights cannot know it, so what a model
knows of it, it has read in the prompt. `shots` counts what it has read: each
prediction has the number of examples before it that say what is right, and -1
stands where nothing is predicted.

Nothing is read from documents. A document of the source is one prompt, which
the generator of its chunk draws: prompts follow from the seed and the cursor,
and no two epochs have the same ones.
"""

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import features
from input_pipeline.tokenizers.interface import Tokenizer

FIRST = 3  # the first ordinary id of the tokenizer `numbers`

# copying: symbols of a text before it repeats, from the least to the most.
LEAST, MOST = 4, 12
# classification: classes of a prompt, names that they may have, values of each
# symbol of an x, and how often one is drawn without regard to the class.
CLASSES, NAMES, VALUES, NOISE = 2, 8, 8, 0.3


def shapes(config: DataConfig) -> features.Shapes:
  """Name -> (shape without the batch, dtype); `shots` are int [B,T].

  Of linear functions `inputs` are vectors, float32 [B,T,I], and `labels`
  float32 [B,T]; of the others both inputs and `targets` are ids [B,T].

  Raises:
    ValueError: no prompt fits a row.
  """
  length = config.length
  least = {
    'linear': 2,
    'copying': 2 * MOST,
    'classification': 2 * (config.dimensions + 1),
  }[config.prompts]
  if length < least:
    raise ValueError(
      f'data.length is {length}; prompts of data.prompts={config.prompts!r} '
      f'have at least {least}.'
    )
  row = ((length,), np.int32)
  found = {'inputs': row, 'targets': row}
  if config.prompts == 'linear':
    found = {
      'inputs': ((length, config.dimensions), np.float32),
      'labels': ((length,), np.float32),
    }
  return found | {
    'positions': row,
    'segments': row,
    'shots': row,
    'weights': ((length,), np.float32),
    'cursor': ((4,), np.int32),
  }


def make_rows(
  count: int,
  tokenizer: Tokenizer,
  config: DataConfig,
  shapes: features.Shapes,
  rng: np.random.Generator,
) -> np.ndarray:
  """`count` prompts, a row each: [count, W]; cursors are zero.

  Raises:
    ValueError: the vocabulary has too few symbols.
  """
  length, size = config.length, config.dimensions
  needed = {
    'linear': 0,
    'copying': MOST,
    'classification': NAMES + size * VALUES,
  }[config.prompts]
  if tokenizer.size < FIRST + needed:
    raise ValueError(
      f'model.vocab_size is {tokenizer.size}, but data.prompts='
      f'{config.prompts!r} has {needed} symbols: it must be at least '
      f'{FIRST + needed}.'
    )
  match config.prompts:
    case 'linear':
      arrays = linear(count, length, size, rng)
    case 'copying':
      arrays = copying(count, length, tokenizer.size - FIRST, rng)
    case 'classification':
      arrays = classification(count, length, size, rng)
  return features.join(
    shapes,
    positions=np.arange(length),
    segments=1,
    weights=arrays['shots'] >= 0,
    **arrays,
  )


def linear(
  count: int, length: int, size: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """Linear functions y = w x (Garg et al. 2022).

  All w and x are N(0, I) and new in each prompt. A y stands in the first number
  of a vector, with zeros behind it.

    inputs  x0  (y0,0)  x1  (y1,0)  x2
    labels  y0  0       y1  0       y2
    shots   0   -1      1   -1      2

  Args:
    count, length: prompts, and vectors of a row; the last may be an x.
    size: I, the numbers of an x.
    rng: draws all.
  """
  examples = -(-length // 2)
  w = rng.standard_normal((count, size, 1))
  x = rng.standard_normal((count, examples, size))
  y = (x @ w)[..., 0]
  inputs = np.zeros((count, 2 * examples, size))
  inputs[:, ::2], inputs[:, 1::2, 0] = x, y
  labels = np.zeros((count, 2 * examples))
  labels[:, ::2] = y
  shots = np.full((count, 2 * examples), -1)
  shots[:, ::2] = np.arange(examples)
  arrays = {'inputs': inputs, 'labels': labels, 'shots': shots}
  return {name: x[:, :length] for name, x in arrays.items()}


def copying(
  count: int, length: int, symbols: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """A random text of distinct symbols, again and again (Olsson et al. 2022).

  Its length is drawn from LEAST to MOST, so that no fixed distance finds what
  followed a symbol before: induction heads do, which take two layers of
  attention. `shots` is how often the symbol that is read stood there before.

    inputs   c a b c a b c
    targets  a b c a b c a
    shots    0 0 0 1 1 1 2
  """
  text = np.argsort(rng.random((count, symbols)), axis=1)[:, :MOST] + FIRST
  period = rng.integers(LEAST, MOST + 1, (count, 1))
  places = np.arange(length + 1)
  line = np.take_along_axis(text, places % period, axis=1)
  return {
    'inputs': line[:, :-1],
    'targets': line[:, 1:],
    'shots': places[:-1] // period,
  }


def classification(
  count: int, length: int, size: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
  """Examples of CLASSES new classes, each x before its class's name.

  A class is a pattern of symbols, one of VALUES at each of the `size` places
  of an x. An x has its class's symbol at each place, or with the probability
  NOISE any one. The names are drawn from NAMES. `shots` is how many examples
  of its own class are before an x (the shots of Chan et al. 2022).

    inputs   a f  name  b g  name'  a h  name
    targets  f name a   g name' b   h name
    shots   -1 0    -1 -1 0     -1 -1 1    -1
  """
  examples = -(-(length + 1) // (size + 1))
  pattern = rng.integers(VALUES, size=(count, CLASSES, size))
  names = np.argsort(rng.random((count, NAMES)), axis=1)[:, :CLASSES]
  which = rng.integers(CLASSES, size=(count, examples))
  x = np.take_along_axis(pattern, which[..., None], axis=1)
  other = rng.integers(VALUES, size=x.shape)
  x = np.where(rng.random(x.shape) < NOISE, other, x)
  x += FIRST + NAMES + VALUES * np.arange(size)
  named = np.take_along_axis(names, which, axis=1) + FIRST
  line = np.concatenate([x, named[..., None]], axis=2).reshape(count, -1)
  before = np.cumsum(np.eye(CLASSES, dtype=int)[which], axis=1) - 1
  before = np.take_along_axis(before, which[..., None], axis=2)
  shots = np.full((count, examples, size + 1), -1)
  shots[..., size - 1] = before[..., 0]
  return {
    'inputs': line[:, :length],
    'targets': line[:, 1 : length + 1],
    'shots': shots.reshape(count, -1)[:, :length],
  }
