"""How likely an encoder finds texts: pseudo-log-likelihood.

Each token is masked in turn and predicted from all others; the sum of these
log probabilities ranks texts (Salazar et al. 2020, 2.1). It is no probability
of the text.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train.applying import Published
from train.evaluation.likelihoods import NARROWEST, Likelihood
from train.generation.prompts import padded, row_width, text_ids
from train.runs import opening


def pseudo_likelihoods(
  model: opening.Run | Published,
  pairs: Sequence[tuple[str, str]],
  batch: int = 32,
) -> list[Likelihood]:
  """How likely an encoder finds each continuation beside its context.

  Args:
    model: with a head that predicts masked tokens.
    pairs: (context, continuation); a context may be ''.
    batch: how many tokens are predicted at once.

  Raises:
    ValueError: the model has another head, a continuation has no token, or a
      text more than the model has positions.
  """
  config, tokenizer = model.model.config, model.tokenizer
  if config.head not in ('mlm', 'mlm_nsp'):
    raise ValueError(
      f'{model.folder} holds a model of model.head={config.head!r}, which '
      'predicts no masked tokens: it has no likelihood of texts.'
    )
  rows = []  # (number of the pair, ids, the place of the masked token)
  for n, (context, continuation) in enumerate(pairs):
    kept = context.rstrip()
    before = [*text_ids(tokenizer, kept)] if kept else []
    own = [*text_ids(tokenizer, context[len(kept) :] + continuation)]
    if not own:
      raise ValueError(f'The text {continuation[:40]!r} has no token.')
    ids = [tokenizer.cls, *before, *own, tokenizer.sep]
    first = 1 + len(before)
    rows += [(n, ids, place) for place in range(first, first + len(own))]
  alike: dict[int, list[int]] = {}
  for n, (_, ids, _) in enumerate(rows):
    width = row_width(len(ids), config, NARROWEST)
    alike.setdefault(width, []).append(n)
  run = _program(model.model, tokenizer.mask)
  sums, greedy = np.zeros(len(pairs)), np.ones(len(pairs), bool)
  counts = np.zeros(len(pairs), int)
  for width, places in sorted(alike.items()):
    for first in range(0, len(places), batch):
      part = [rows[n] for n in places[first : first + batch]]
      filled = [*part, *[part[-1]] * (batch - len(part))]
      numbers, ids, at = zip(*filled, strict=True)
      with nn.logical_axis_rules(()):  # every device computes all rows
        found = run(model.params, *padded(ids, width), np.int32(at))
      log_probs, best = jax.device_get(found)
      own = np.array(numbers[: len(part)])
      np.add.at(sums, own, log_probs[: len(part)])
      np.add.at(counts, own, 1)
      np.logical_and.at(greedy, own, best[: len(part)])
  return [
    Likelihood(float(x), int(y), bool(z))
    for x, y, z in zip(sums, counts, greedy, strict=True)
  ]


@functools.cache
def _program(model: nn.Module, mask: int) -> Callable[..., Any]:
  """params, ids and segments [B,T], places [B] -> log probability, greedy."""

  @jax.jit
  def run(params, ids, segments, at):
    hidden = jnp.arange(ids.shape[1]) == at[:, None]
    right = jnp.take_along_axis(ids, at[:, None], axis=1)[:, 0]
    logits = model.apply(
      {'params': params},
      inputs=jnp.where(hidden, mask, ids),
      segments=segments,
      predict_at=at[:, None],
    )['logits'][:, 0]
    logs = jax.nn.log_softmax(logits)
    found = jnp.take_along_axis(logs, right[:, None], axis=1)[:, 0]
    return found, jnp.argmax(logits, axis=1) == right

  return run
