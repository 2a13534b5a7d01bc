"""Remainders: what is left of a chunk whose first rows were read.

A phase may end in the middle of a chunk, and the next phase may make other
rows. What the rows that were not read hold is the chunk's remainder: it is read
next, so no token is read twice or left out. (With data.start='none' the first
token of a remainder is read and not predicted, as that of any chunk.) Rows are
made again of documents whose tokens have numbers in place of ids. Their layout
is the same, and the numbers in a row say which tokens it holds.

  documents       [a b c d e] [f g]
  rows of 2       f g | c d | a b | e      read: the first two
  remainder       [a b] [e]
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import features, rows
from input_pipeline.tokenizers.interface import Tokenizer

FIRST = 1 << 29  # the first number: above all ids


def after(
  read: int,
  documents: Sequence[rows.Document],
  whole: Sequence[bool] | None,
  tokenizer: Tokenizer,
  config: DataConfig,
  rng: np.random.Generator,
  family: str,
) -> tuple[list[rows.Document], list[bool]]:
  """What the rows from number `read` on hold, as documents.

  The other arguments are those of rows.make_rows, and `rng` as it was for it.
  Each run of tokens that stood together is a document, or a list of sentences
  where documents are. Returns the documents, and which have the end of a text.
  """
  whole = [True] * len(documents) if whole is None else whole
  # A decoder reads EOS after a text: it has a number too.
  marked = [
    config.objective == 'causal' and bool(end) and _size(document) > 0
    for document, end in zip(documents, whole, strict=True)
  ]
  sizes = [_size(d) + mark for d, mark in zip(documents, marked, strict=True)]
  numbered = _numbered(documents, sizes)
  unmarked = [bool(x) > y for x, y in zip(whole, marked, strict=True)]
  held = _held(numbered, unmarked, tokenizer, config, rng, family, read)
  kept = np.zeros(sum(sizes), bool)
  kept[held[held >= FIRST] - FIRST] = True
  parts, ends, first = [], [], 0
  for number, (document, size) in enumerate(zip(documents, sizes, strict=True)):
    last = _size(document)
    for start, stop in _runs(kept[first : first + size]):
      alone = start == last  # EOS without a token of its text
      eos = np.array([tokenizer.eos], np.int32)
      part = eos if alone else _part(document, start, min(stop, last))
      parts.append(part)
      ends.append(bool(whole[number]) and stop == size and not alone)
    first += size
  return parts, ends


def _held(documents, whole, tokenizer, config, rng, family, read):
  """The tokens that rows from `read` on hold, int [n]."""
  if config.masks:
    documents, _ = rows.shuffled(documents, whole, rng)
    tokens, others = rows.framed_rows(
      documents, tokenizer.cls, tokenizer.sep, config, rng
    )
    # A second part that does not follow the first is of another document, where
    # it is read too.
    if 'is_next' in others:
      own = (others['types'] == 0) | (others['is_next'] == 0)[:, None]
      tokens = np.where(own, tokens, 0)
    return tokens[read:]
  shapes = rows.batch_shapes(config, family)
  made = rows.make_rows(
    documents, tokenizer, config, shapes, rng, family, whole
  )
  arrays = features.split(made[read:], shapes)
  names = [x for x in ('encoder_inputs', 'targets') if x in arrays]
  return np.concatenate([arrays[name].ravel() for name in names])


def _numbered(documents, sizes):
  """The documents with rising numbers from FIRST on in place of ids.

  A document of more numbers than tokens has one for its EOS too.
  """
  found, first = [], FIRST
  for document, size in zip(documents, sizes, strict=True):
    numbers = np.arange(first, first + size, dtype=np.int32)
    first += size
    if not isinstance(document, np.ndarray):
      ends = np.cumsum([len(part) for part in document])
      numbers = np.split(numbers, ends[:-1]) if len(document) else []
    found.append(numbers)
  return found


def _size(document):
  """The tokens of a document."""
  if isinstance(document, np.ndarray):
    return len(document)
  return sum(map(len, document))


def _runs(kept):
  """(start, stop) of each run of true values."""
  edges = np.flatnonzero(np.diff(np.concatenate([[0], kept, [0]])))
  return edges.reshape(-1, 2).tolist()


def _part(document, start, stop):
  """Tokens `start` to `stop` of a document, by sentence if it has sentences."""
  if isinstance(document, np.ndarray):
    return document[start:stop]
  parts, first = [], 0
  for sentence in document:
    part = sentence[max(start - first, 0) : max(stop - first, 0)]
    if len(part):
      parts.append(part)
    first += len(sentence)
  return parts
