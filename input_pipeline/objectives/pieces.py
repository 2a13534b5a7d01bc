"""Pieces: documents cut to a length, as arrays [N, L].

N pieces of the same length L are one array of token ids. Where a function makes
rows of different lengths, NOTHING fills the shorter ones.
"""

from collections.abc import Sequence

import numpy as np

NOTHING = -1  # in the place of a token, after the end of a shorter row


def cut(
  documents: Sequence[np.ndarray], length: int, concatenate: bool
) -> list[np.ndarray]:
  """Documents (id arrays) -> pieces as [N, L] arrays, one for each length L.

  Almost all pieces have `length` tokens. The rest is shorter: one piece for the
  whole chunk if its documents are joined, as in T5, else one for each document.

  >>> [p.tolist() for p in cut([np.arange(3), np.arange(4)], 2, False)]
  [[[2]], [[0, 1], [0, 1], [2, 3]]]
  """
  if concatenate:
    documents = [np.concatenate(documents)] if documents else []
  pieces = {length: []}
  for tokens in documents:
    full = len(tokens) // length
    if full:
      pieces[length].append(tokens[: full * length].reshape(full, length))
    if rest := len(tokens) - full * length:
      pieces.setdefault(rest, []).append(tokens[None, -rest:])
  return [np.concatenate(p) for _, p in sorted(pieces.items()) if p]


def windows(
  documents: Sequence[np.ndarray], length: int, concatenate: bool
) -> tuple[list[np.ndarray], np.ndarray]:
  """Documents -> pieces of `length` tokens, as cut(), and the ids before them.

  As GPT-2 is trained: a piece and the token before it are a window of
  length + 1 tokens, whose last token is the first of the next window. Every
  token is in one piece, except for the first of the chunk (or of each document,
  if they are not joined). Returns the pieces, and int32 [N] in their order.

  >>> pieces, before = windows([np.array([5, 6, 7, 1])], 2, True)
  >>> [piece.tolist() for piece in pieces], before.tolist()
  ([[[1]], [[6, 7]]], [7, 5])
  """
  if concatenate:
    documents = [np.concatenate(documents)] if documents else []
  pieces = cut([tokens[1:] for tokens in documents], length, False)
  before = cut([tokens[:-1] for tokens in documents], length, False)
  return pieces, np.concatenate([p[:, 0] for p in before] or [np.zeros(0, int)])


def random_part(
  tokens: np.ndarray, rng: np.random.Generator, length: int
) -> np.ndarray:
  """One of the parts that `tokens` has, cut every `length` tokens.

  int [n] -> int [at most `length`]. As T5's select_random_chunk.
  """
  if len(tokens) <= length:
    return tokens
  start = length * rng.integers(-(-len(tokens) // length))
  return tokens[start : start + length]


def end_rows(tokens: np.ndarray, eos: int) -> np.ndarray:
  """Tokens [N, L] -> [N, L + 1], with EOS after each row."""
  return np.pad(tokens, [(0, 0), (0, 1)], constant_values=eos)


def line_up(
  tokens: np.ndarray,
  chosen: np.ndarray,
  before: Sequence[int],
  after: Sequence[int],
) -> np.ndarray:
  """The `chosen` tokens of each row, between the ids `before` and `after`.

  tokens, chosen [N, L] -> [N, I], where I is the longest row's length.

    tokens 5 6 7   chosen 1 0 1   before 2   after 1   ->   2 5 7 1
           8 9 4          0 1 0                             2 9 1 -1
  """
  counts = chosen.sum(axis=1)[:, None]
  width = len(before) + counts.max(initial=0) + len(after)
  lines = np.full([len(tokens), width], NOTHING, np.int32)
  lines[:, : len(before)] = before
  places = np.arange(width) - len(before)
  lines[(places >= 0) & (places < counts)] = tokens[chosen]
  closing = (counts <= places) & (places < counts + len(after))
  lines[closing] = np.tile(np.array(after, np.int32), len(tokens))
  return lines


def lengths_of(examples: Sequence[np.ndarray]) -> np.ndarray:
  """Lengths of the rows of several [N, L] arrays, one array after the other."""
  lengths = [(tokens != NOTHING).sum(axis=1) for tokens in examples]
  return np.concatenate([*lengths, np.zeros(0, int)])
