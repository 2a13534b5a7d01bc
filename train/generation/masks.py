"""Encoders: what may stand in the gaps of a text, and which words are replaced.

They write no text. BERT and RoBERTa name the tokens that fit a gap; ELECTRA
says of each token how likely another stood in its place.
"""

from typing import Any, NamedTuple

import numpy as np

from train.applying import Published
from train.generation.prompts import text_ids
from train.runs import opening

DETECTING = 'rtd', 'rtd_masked'
HEADS = 'mlm', 'mlm_nsp', *DETECTING


class Gap(NamedTuple):
  """The likeliest tokens for a gap, the first one first.

  Attributes:
    pieces: as the vocabulary writes them.
    probabilities: of each.
  """

  pieces: tuple[str, ...]
  probabilities: tuple[float, ...]


def fill(model: opening.Run | Published, text: str, top: int = 5) -> list[Gap]:
  """What fits each gap of a text: Devlin et al. 2019, 3.1.

  Args:
    model: with a head that predicts masked tokens.
    text: with the mask's name in each gap, [MASK] or RoBERTa's <mask>.
    top: how many tokens for each gap.

  Raises:
    ValueError: the model has another head, the text no gap or too many tokens,
      or `top` is no number of tokens.
  """
  head = model.model.config.head
  if head not in ('mlm', 'mlm_nsp'):
    raise ValueError(
      f'{model.folder} holds a model of model.head={head!r}, which predicts no '
      'masked tokens; mlm and mlm_nsp do.'
    )
  tokenizer = model.tokenizer
  if not 1 <= top <= tokenizer.size:
    raise ValueError(
      f'top={top} must be 1 to {tokenizer.size}, the size of the vocabulary.'
    )
  name = tokenizer.masking[2]
  parts = text.split(name)
  if len(parts) == 1:
    raise ValueError(
      f'The text {text[:60]!r} has no gap: write {name} for a masked token.'
    )
  ids = [tokenizer.cls]
  for n, part in enumerate(parts):
    # The mask takes the space before it; a word after it keeps its own.
    part = part.rstrip(' ') if n < len(parts) - 1 else part
    ids += [*text_ids(tokenizer, part)] if part.strip() else []
    ids += [tokenizer.mask] if n < len(parts) - 1 else [tokenizer.sep]
  logits = model.apply([ids])['logits'][0, :, : tokenizer.size]
  found = []
  for place in np.flatnonzero(np.array(ids) == tokenizer.mask):
    own = np.exp(logits[place] - logits[place].max(), dtype='float64')
    own /= own.sum()
    best = np.argsort(-own, kind='stable')[:top]
    pieces = (*map(tokenizer.piece, best.tolist()),)
    found.append(Gap(pieces, (*own[best].tolist(),)))
  return found


def replaced(
  model: opening.Run | Published, text: str
) -> list[tuple[str, float]]:
  """Each token and how likely it replaces another: Clark et al. 2020, 2.

  Raises:
    ValueError: the model is not ELECTRA's, or the text has too many tokens.
  """
  config = model.model.config
  if config.head not in DETECTING:
    raise ValueError(
      f'{model.folder} holds a model of model.head={config.head!r}, which does '
      'not detect replaced tokens; rtd does.'
    )
  found = model.apply([text])
  kept = found['segments'][0] > 0
  chances = 1 / (1 + np.exp(-found['replaced'][0, kept].astype('float64')))
  pieces = map(model.tokenizer.piece, found['tokens'][0, kept].tolist())
  return list(zip(pieces, chances.tolist(), strict=True))


def answer(
  model: opening.Run | Published, text: str, top: int = 5
) -> dict[str, Any]:
  """`fill` or, of ELECTRA, `replaced`, as the fields of a JSON object."""
  if model.model.config.head in DETECTING:
    found = replaced(model, text)
    return {'replaced': [{'piece': x, 'probability': p} for x, p in found]}
  return {'gaps': [gap._asdict() for gap in fill(model, text, top)]}


def shown(model: opening.Run | Published, text: str, top: int = 5) -> str:
  """`fill` or, of ELECTRA, `replaced`, as text."""
  lines = [f'input:      {text}']
  if model.model.config.head in DETECTING:
    lines += [
      f'{chance:10.4f}  {piece}' for piece, chance in replaced(model, text)
    ]
  else:
    for n, gap in enumerate(fill(model, text, top), 1):
      best = zip(gap.pieces, gap.probabilities, strict=True)
      texts = ', '.join(f'{piece} {chance:.4f}' for piece, chance in best)
      lines.append(f'gap {n}:      {texts}')
  return '\n'.join([*lines, ''])
