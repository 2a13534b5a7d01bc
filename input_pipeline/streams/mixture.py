"""Mixtures: the rows of several sources in one stream.

The source of each row is drawn by the sources' rates. The generator is seeded
with the place in the stream, so the source of row n is known without the rows
before it. Each source goes on in a stream where that stream last left it. See
cursors for the cursor of a mixture of K sources.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import features
from input_pipeline.objectives.rows import make_rows
from input_pipeline.sources.files import Source
from input_pipeline.streams import cursors, seeds
from input_pipeline.streams.corpus import Corpus
from input_pipeline.tokenizers.interface import Tokenizer

COUNTED = 2000  # examples that are packed to see how many a row has
DRAWN = 128  # rows whose sources are drawn, and which are put together, at once


def examples_per_row(
  corpus: Corpus, tokenizer: Tokenizer, shapes: features.Shapes, family: str
) -> float:
  """How many examples of a task a packed row has; 1 for text.

  T5 counts the text of a row as one example. Some examples are packed to see
  it, the same ones in every run.
  """
  if not (corpus.labels and corpus.config.pack):
    return 1.0
  examples = corpus.source.examples
  some = examples[:: -(-len(examples) // COUNTED)]
  words = seeds.generator(0, seeds.WORDS)
  found = corpus.labels.encode(some, tokenizer, words).rows
  rng = seeds.generator(0, seeds.ROWS)
  rows = make_rows(found, tokenizer, corpus.config, shapes, rng, family)
  return len(some) / max(len(rows), 1)


def rates_of_rows(
  config: DataConfig, corpora: Sequence[Corpus], *rows: Any
) -> tuple[list[float], bool]:
  """The shares of the rows, and whether some row has more than one example.

  `rows` are the last arguments of `examples_per_row`. Raises what `rates` and
  `check_names` do.
  """
  check_names(corpora)
  found = rates(config, [corpus.source for corpus in corpora])
  counts = [examples_per_row(corpus, *rows) for corpus in corpora]
  if all(count == 1 for count in counts):
    return found, False
  found = [rate / n for rate, n in zip(found, counts, strict=True)]
  return [rate / sum(found) for rate in found], True


def rates(config: DataConfig, sources: Sequence[Source]) -> list[float]:
  """The share of the examples that each source has; they sum to 1.

  With data.rates='examples' shares are as r = min(n, K)^(1/T), n the number in
  data.mixture, or where that is 0 the source's own count of examples. Text
  without labels is as large as K (Raffel et al. 2020, 3.5.2).

  Raises:
    ValueError: a source has no count, and there is no data.rate_cap.
  """
  found = [rate for *_, rate in config.sources]
  if config.rates == 'equal':
    found = [1.0] * len(found)
  elif config.rates == 'examples':
    for n, ((key, name, count), source) in enumerate(
      zip(config.sources, sources, strict=True)
    ):
      size = count or len(getattr(source, 'examples', ())) or config.rate_cap
      if not size:
        raise ValueError(
          f'{key}={name!r} has no count of examples: give it in place of the 0,'
          ' or set data.rate_cap.'
        )
      size = min(size, config.rate_cap or size)
      found[n] = size ** (1 / config.rate_temperature)
  # Shares that were given are left as they are, to the last bit.
  total = 1 if config.rates == 'given' else sum(found)
  return [rate / total for rate in found]


def check_names(corpora: Sequence[Corpus]) -> None:
  """Raises ValueError if two tasks share a name, by which scores are kept."""
  named = {}
  for corpus in corpora if len(corpora) > 1 else ():
    if task := getattr(corpus.source, 'task', None):
      other = named.setdefault(task.name, corpus)
      if other is not corpus:
        raise ValueError(
          f'{other.key}={other.name!r} and {corpus.key}={corpus.name!r} are '
          f'both named {task.name}: give your own table another, name=NAME.'
        )


def draw(
  seed: int, stream: int, rates: Sequence[float], number: int
) -> np.ndarray:
  """The sources of a stream's rows [number * DRAWN, (number + 1) * DRAWN)."""
  rng = seeds.generator(seed, seeds.MIXTURE, stream, number)
  bounds = np.cumsum(rates) / np.sum(rates)
  return np.searchsorted(bounds[:-1], rng.random(DRAWN), side='right')


def merge(
  parts: Sequence[Iterator[np.ndarray]],
  seed: int,
  stream: int,
  rates: Sequence[float],
  cursor: np.ndarray,
  shapes: dict[str, tuple],
) -> Iterator[np.ndarray]:
  """Rows [rows, W] of a stream after `cursor` [1 + (3 + C) K], endless.

  `parts` has each source's own arrays of rows, after its place in the cursor.
  Those rows have the numbers of their place in the first columns of the cursor
  in `shapes`. An error of a source is raised when its row's turn comes.
  """
  count = int(cursor[0])
  width = (len(cursor) - 1) // len(parts)  # of a place
  places = [place[None] for place in cursors.places(cursor, width - 3)]
  queues = [_Queue(rows) for rows in parts]
  while True:
    number, first = divmod(count, DRAWN)
    chosen = draw(seed, stream, rates, number)[first:]
    rows = features.padding(shapes, len(chosen))
    own_cursors = features.split(rows, shapes)['cursor']
    whole, failed = len(rows), None
    for source, queue in enumerate(queues):
      (at,) = np.nonzero(chosen == source)
      taken = queue.take(len(at), rows[:0])
      if len(taken) < len(at) and at[len(taken)] < whole:
        whole, failed = at[len(taken)], queue.error
      rows[at[: len(taken)]] = taken
      own = features.split(taken, shapes)['cursor'][:, :width]
      places[source] = np.concatenate([places[source][-1:], own])
    for source, passed in enumerate(places):
      seen = np.cumsum(chosen == source)
      columns = slice(1 + width * source, 1 + width * (source + 1))
      own_cursors[:, columns] = passed[np.minimum(seen, len(passed) - 1)]
    own_cursors[:, 0] = count + 1 + np.arange(len(rows))
    yield rows[:whole]
    if failed:
      raise failed
    count += len(rows)


class _Queue:
  """Rows of one source, taken as many at a time as the caller needs."""

  def __init__(self, parts):
    self.parts, self.left, self.error = parts, None, None

  def take(self, count, none):
    """The next `count` rows; fewer where the source fails, see `error`."""
    found = [none if self.left is None else self.left]
    there = len(found[0])
    while there < count and self.error is None:
      try:
        part = next(self.parts)
      except Exception as error:
        self.error = error
      else:
        found.append(part)
        there += len(part)
    rows = np.concatenate(found)
    self.left = rows[count:]
    return rows[:count]
