"""UL2's mixture of denoisers (Tay et al. 2022, 3.1).

A denoiser is (mode, rate, mean span, share): its share of the examples, which
begin with the text of its mode, lose `rate` of their tokens in spans of the
mean length. R- and X-denoisers are T5's span corruption, whose spans have the
lengths of a random composition where the paper names a normal distribution
without its width. An S-denoiser has mean span 0: one span to the text's end.
Its rate is table 1's; with 0 it is prefix language modelling, as in the paper's
code: split anywhere, without a sentinel.
"""

import numpy as np

from input_pipeline.objectives import corruption


def suffix_limit(length, rate):
  """Tokens of an S-denoiser's longest span; the mean of 1 to it is the rate's.

  >>> suffix_limit(100, 0.25)
  49
  """
  return min(max(2 * round(length * rate) - 1, 1), max(length - 1, 0))


def suffix_corruption(tokens, rng, rate, sentinel, eos):
  """One span to the end of a piece, each length up to a limit as likely.

  tokens [N, L]. A piece of one token stays whole.

    tokens   Thank you for inviting me to your party
    inputs   Thank you for inviting me <0> </s>
    targets  <0> to your party </s>
  """
  rows, length = tokens.shape
  limit = suffix_limit(length, rate)
  noise = rng.integers(1, limit + 1, size=rows) if limit else np.zeros(rows)
  kept = np.arange(length) < length - noise[:, None]
  return (
    corruption.line_up(tokens, kept, [], [sentinel, eos]),
    corruption.line_up(tokens, ~kept, [sentinel], [eos]),
  )


def sizes(raw, rate, mean):
  """Sizes of a piece of `raw` tokens after corruption, at most: inputs, targets
  and both together."""
  if not mean and not rate:
    return max(raw, 1), raw + (raw < 2), raw + 2
  if not mean:
    limit = suffix_limit(raw, rate)
    return raw + 1 + (not limit), limit + 2, raw + 4
  noise, spans = corruption.noise_counts(raw, rate, mean)
  return raw - noise + spans + 1, noise + spans + 1, raw + 2 * spans + 2


def cut(documents, lengths, shares, rng, concatenate):
  """Documents -> (denoiser, [N, L]) for each denoiser and length of piece.

  Which denoiser is next is drawn by the shares; its pieces have lengths[n]
  tokens, the last of a document (or of all, joined) what is left.
  """
  if concatenate:
    documents = [np.concatenate(documents)] if documents else []
  groups = {}
  for tokens in documents:
    most = -(-len(tokens) // min(lengths))
    kinds = rng.choice(len(shares), size=most, p=np.divide(shares, sum(shares)))
    stops = np.cumsum(np.take(lengths, kinds))
    count = int(np.searchsorted(stops, len(tokens))) + 1
    pieces = np.split(tokens, stops[: count - 1])
    for kind, piece in zip(kinds[:count].tolist(), pieces, strict=True):
      groups.setdefault((kind, len(piece)), []).append(piece)
  return [(kind, np.stack(groups[kind, n])) for kind, n in sorted(groups)]


def denoise(
  documents, rng, denoisers, modes, lengths, sentinels, eos, concatenate
):
  """Examples of all denoisers: a list of (inputs [N, I], targets [N, J]).

  `modes` has the ids of each denoiser's mode, `lengths` its raw pieces' tokens.
  """
  examples = []
  shares = [share for *_, share in denoisers]
  for kind, tokens in cut(documents, lengths, shares, rng, concatenate):
    _, rate, mean, _ = denoisers[kind]
    if mean:
      inputs, targets = corruption.span_corruption(
        tokens, rng, rate, mean, sentinels, eos
      )
    elif not rate:
      inputs, targets = corruption.prefix_lm(tokens, rng, eos)
    else:
      inputs, targets = suffix_corruption(tokens, rng, rate, sentinels[0], eos)
    mode = np.tile(np.array(modes[kind], np.int32), [len(inputs), 1])
    examples.append((np.hstack([mode, inputs]), targets))
  return examples
