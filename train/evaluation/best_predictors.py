"""The best possible predictors of in-context prompts, in closed form.

They know how `input_pipeline.objectives.in_context` draws prompts, but not what
was drawn for one. Each takes a batch and gives scores [B,T]: see in_context.py.
Places without a prediction have 0.
"""

import numpy as np

from input_pipeline.objectives.in_context import (
  CLASSES,
  FIRST,
  LEAST,
  MOST,
  NAMES,
  NOISE,
  VALUES,
)

Batch = dict[str, np.ndarray]


def scores(batch: Batch, prompts: str, vocabulary: int) -> np.ndarray:
  """The best scores for data.prompts; `vocabulary` is model.vocab_size."""
  match prompts:
    case 'linear':
      return least_squares(batch)
    case 'copying':
      return copier(batch, vocabulary - FIRST)
    case 'classification':
      return bayes(batch)
  raise ValueError(f'data.prompts={prompts!r} is unknown.')


def least_squares(batch: Batch) -> np.ndarray:
  """Squared errors, divided by I, of least squares on the examples before.

  With fewer than I examples it is the solution of least norm. That is the mean
  of w given the examples, as w is N(0, I) and y has no noise: nothing has a
  smaller expected error.
  """
  x, y = (
    batch[name][:, ::2].astype(np.float64) for name in ('inputs', 'labels')
  )
  size, errors = x.shape[-1], np.zeros(batch['labels'].shape)
  for k in range(x.shape[1]):
    w = np.linalg.pinv(x[:, :k]) @ y[:, :k, None]  # [B,I,1]
    found = (x[:, k, None] @ w)[:, 0, 0]
    errors[:, 2 * k] = np.square(found - y[:, k]) / size
  return errors


def copier(batch: Batch, symbols: int) -> np.ndarray:
  """The expected accuracy of who knows how texts of `copying` are drawn.

  What followed a symbol before follows it again. After t new symbols the text
  begins again with the probability 1 / (MOST - t + 1), once t is LEAST, or else
  any of the other symbols is next: the likelier of both is the guess.
  """
  seen = np.arange(1, batch['shots'].shape[1] + 1)
  again = 1 / np.maximum(MOST - np.maximum(seen, LEAST) + 1, 1)
  again = np.where(seen >= LEAST, again, 0)
  new = (1 - again) / np.maximum(symbols - seen, 1)
  return np.where(batch['shots'] > 0, 1.0, np.maximum(again, new))


def bayes(batch: Batch) -> np.ndarray:
  """Whether the likeliest name is right; names that tie share a hit.

  Given a prompt's earlier examples, the symbols of a class are independent, and
  each is distributed by how often its values came. A name that has not come yet
  stands for an x that nothing is known of.
  """
  inputs, targets, shots = (
    batch[name] for name in ('inputs', 'targets', 'shots')
  )
  places = np.flatnonzero(shots[0] >= 0)
  size, rows = places[0] + 1, len(inputs)
  match = 1 - NOISE + NOISE / VALUES
  other = NOISE / VALUES
  counts = np.zeros((rows, NAMES, size, VALUES))  # of the examples before
  hits, every = np.zeros(shots.shape), np.arange(rows)
  for place in places:
    x = inputs[:, place - size + 1 : place + 1] - FIRST - NAMES
    x = x - VALUES * np.arange(size)
    name = targets[:, place] - FIRST
    pattern = (match / other) ** counts  # of a class's true symbol, [B,N,I,V]
    pattern /= pattern.sum(axis=-1, keepdims=True)
    own = np.take_along_axis(pattern, x[:, None, :, None], axis=-1)[..., 0]
    likely = np.prod(own * match + (1 - own) * other, axis=-1) / CLASSES
    seen = counts[:, :, 0].sum(axis=-1) > 0
    left = seen.sum(axis=-1, keepdims=True)
    new = (CLASSES - left) / CLASSES / (NAMES - left)  # a name's
    likely = np.where(seen, likely, new * VALUES ** -float(size))
    best = np.isclose(likely, likely.max(axis=-1, keepdims=True), rtol=1e-9)
    hits[:, place] = best[every, name] / best.sum(axis=-1)
    counts[every[:, None], name[:, None], np.arange(size), x] += 1
  return hits
