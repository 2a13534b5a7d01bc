"""How likely a model finds texts: of continuations, and of long texts.

Everything is read once, with the predicted tokens in their places: no cache, no
drawing. A number does not depend on the texts beside it.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.logits import BY_SIZE
from train.generation import programs
from train.generation.prompts import padded, text_ids
from train.generation.writer import Writer
from train.learning.heads import logits_of
from train.learning.losses import token_losses

Ids = Sequence[int]
NARROWEST = 16  # tokens of a row, in place of the writer's


class Likelihood(NamedTuple):
  """How likely a model finds tokens after a context.

  Attributes:
    log_prob: the sum of their log probabilities, in nats.
    tokens: how many they are.
    greedy: whether each of them is the likeliest one.
  """

  log_prob: float
  tokens: int
  greedy: bool


def likelihoods(
  writer: Writer, pairs: Sequence[tuple[Ids, Ids]], batch: int = 8
) -> list[Likelihood]:
  """How likely the model finds each continuation after its context.

  Args:
    writer: the model.
    pairs: (context, continuation), ids as the model reads them: see
      `encode_pair`. A decoder needs a token before the first that it predicts.
    batch: how many pairs are read at once. The results do not depend on it but
      for rounding.

  Raises:
    ValueError: nothing to predict, nothing before it, or more tokens than the
      model has positions.
  """
  rows = [_row(writer, *pair) for pair in pairs]
  alike: dict[tuple[int, ...], list[int]] = {}
  for n, row in enumerate(rows):
    widths = tuple(writer.width(len(x), NARROWEST) for x in row[:2])
    alike.setdefault(widths, []).append(n)
  size = writer.divisible(min(batch, len(rows)))
  run = _program(writer.fixed)
  found: dict[int, Likelihood] = {}
  for widths, places in sorted(alike.items()):
    for first in range(0, len(places), size):
      part = places[first : first + size]
      arrays = _arrays(writer, [rows[n] for n in part], widths, size)
      with writer.on_mesh():
        sums = jax.device_get(run(writer.params, arrays))
      for n, log_prob, greedy in zip(part, *sums, strict=False):
        tokens = len(rows[n][2])
        found[n] = Likelihood(float(log_prob), tokens, bool(greedy))
  return [found[n] for n in range(len(rows))]


def _row(writer, context, continuation):
  """What an encoder reads, what the predicting stack does, the targets."""
  context, continuation = [*map(int, context)], [*map(int, continuation)]
  if not continuation:
    raise ValueError('A continuation has no token to predict.')
  if writer.pair:
    return context, [writer.start or 0, *continuation[:-1]], continuation
  if not context:
    raise ValueError(
      'A continuation has no token before it: the model begins texts with none '
      '(data.start), so that it gives the first one no probability.'
    )
  return [], [*context, *continuation[:-1]], continuation


def _arrays(writer, rows, widths, size):
  """Rows -> the arrays of a batch of `size` rows; the last one fills it up."""
  rows = [*rows, *[rows[-1]] * (size - len(rows))]
  sources, inputs, continuations = zip(*rows, strict=True)
  before = [len(x) - len(y) for x, y in zip(inputs, continuations, strict=True)]
  arrays = {}
  if writer.pair:
    arrays['encoder_inputs'], arrays['encoder_segments'] = padded(
      sources, widths[0]
    )
  arrays['inputs'], arrays['segments'] = padded(inputs, widths[1])
  targets = [
    [0] * n + own for n, own in zip(before, continuations, strict=True)
  ]
  arrays['targets'], read = padded(targets, widths[1])
  places = np.arange(widths[1])
  arrays['weights'] = np.float32(read * (places >= np.array(before)[:, None]))
  return writer.placed(arrays, size)


@functools.cache
def _program(fixed: programs.Fixed) -> Callable:
  """params, batch -> log probability and whether it is greedy, [B] each."""
  model = fixed.model.clone(loss_chunk=BY_SIZE)

  def run(params, batch):
    batch = dict(batch)
    targets, weights = batch.pop('targets'), batch.pop('weights')
    logits = logits_of(model.apply({'params': params}, **batch))
    loss, _, correct = token_losses(logits, targets)
    greedy = jnp.all(correct | (weights == 0), axis=1)
    return fixed.whole(-jnp.sum(weights * loss, axis=1), greedy)

  return fixed.jit(run)


def encode_pair(
  writer: Writer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
  """Texts -> ids of a context and of the continuation after it.

  White space between them belongs to the continuation, whose tokens are those
  of the whole text that come after the context's. An encoder reads the context
  alone, and the decoder begins with the continuation; a decoder reads `before`
  first.
  """
  ids = functools.partial(text_ids, writer.tokenizer)
  if writer.pair:
    after = [writer.tokenizer.eos] if writer.pairs else []
    return [*ids(context), *after], [*ids(continuation)]
  kept = context.rstrip()
  continuation, context = context[len(kept) :] + continuation, kept
  whole = ids(context + continuation)
  count = len(ids(context)) if context else 0
  return [before(writer), *whole[:count]], [*whole[count:]]


def before(writer: Writer) -> int:
  """What a decoder reads before a text: its start token, or EOS.

  A run whose texts begin with none reads one text after the other, with EOS
  between them.
  """
  return writer.tokenizer.eos if writer.start is None else writer.start


def windows(
  ids: Ids, length: int, stride: int, start: int | None = None
) -> Iterator[tuple[Ids, Ids]]:
  """Pairs that predict each token of a long text once.

  Each reads at most `length` tokens. The first predicts as many as it can, each
  later one `stride` more, after as much of the text before as there is room.
  Without `start`, which is read before the text, its first token is not
  predicted.

  Example: windows('abcdef', 4, 2, '^') gives ('^', 'abcd') and ('bcd', 'ef').
  """
  if not 0 < stride <= length:
    raise ValueError(f'The stride {stride} must be 1 to the length, {length}.')
  ids = [*ids]
  begin = [start] if start is not None else ids[:1]
  rest = ids if start is not None else ids[1:]
  if rest:
    yield begin, rest[:length]
  whole, end = [*begin, *rest], len(begin) + len(rest[:length])
  while end < len(whole):
    last = min(end + stride, len(whole))
    first = max(last - 1 - length, 0)
    yield whole[first:end], whole[end:last]
    end = last
