"""UL2's mixture of denoisers (Tay et al. 2022, 3.1), and of other objectives.

A denoiser is (mode, rate, mean span, share): `share` of the examples begin with
the text of its mode and lose `rate` of their tokens, in spans of the mean
length. Where every mode is '', no row says which denoiser it is for.

  rate r, mean m      T5's span corruption (R, X); the lengths of spans are a
                      random composition (the paper names a normal distribution,
                      but not its width)
  rate r, mean 0      one span up to the text's end (S, table 1)
  rate 0, mean 0      prefix language modelling, S in the paper's code: the text
                      is split anywhere and has no sentinel
  rate 1, mean 0      causal language modelling: a prefix without tokens
  rate r, mean 'iid'  noise drawn token by token, T5's iid_spans

With these the paper compares (4.1.2) SCLM, span corruption and causal language
modelling in equal parts, and UniLM, which Dong et al. 2019 mix: causal and
prefix language modelling, and i.i.d. noise that is written out.
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline.choices import IID
from input_pipeline.config import DataConfig
from input_pipeline.objectives import prefixes, spans, t5_ablations
from input_pipeline.objectives.pieces import line_up
from input_pipeline.tokenizers.interface import Tokenizer


def mode_ids(tokenizer: Tokenizer, config: DataConfig) -> list[np.ndarray]:
  """Ids of each denoiser's mode; ValueError if two modes have the same.

  Denoisers whose mode is '' have none.
  """
  names = [mode for mode, *_ in config.denoisers]
  if not any(names):
    return [np.zeros(0, np.int32)] * len(names)
  ids = tokenizer.encode_batch([name.encode() for name in names], 1)
  found = {tuple(mode.tolist()) for mode in ids}
  if len(found) < len(set(names)) or () in found:
    raise ValueError(
      f'data.denoisers: data.tokenizer={config.tokenizer!r} cannot tell the'
      f' modes {", ".join(sorted(set(names)))} apart: give them names made of'
      ' characters that it has.'
    )
  return ids


def suffix_limit(length: int, rate: float) -> int:
  """Tokens of an S-denoiser's longest span.

  Spans of 1 to that many tokens have the mean that the rate asks for.

  >>> suffix_limit(100, 0.25)
  49
  """
  return min(max(2 * round(length * rate) - 1, 1), max(length - 1, 0))


def suffix_corruption(
  tokens: np.ndarray,
  rng: np.random.Generator,
  rate: float,
  sentinel: int,
  eos: int,
) -> tuple[np.ndarray, np.ndarray]:
  """The S-denoiser: one span up to the end of a piece, [N,L] -> [N,I], [N,J].

  All lengths of the span up to a limit are equally likely. A piece of one token
  stays whole.

    tokens   Thank you for inviting me to your party
    inputs   Thank you for inviting me <0> </s>
    targets  <0> to your party </s>
  """
  rows, length = tokens.shape
  limit = suffix_limit(length, rate)
  noise = rng.integers(1, limit + 1, size=rows) if limit else np.zeros(rows)
  kept = np.arange(length) < length - noise[:, None]
  return (
    line_up(tokens, kept, [], [sentinel, eos]),
    line_up(tokens, ~kept, [sentinel], [eos]),
  )


def most_sentinels(raw: int, rate: float, mean: float | str) -> int:
  """Sentinels that a denoiser may show of a piece of `raw` tokens."""
  if mean == IID:
    return t5_ablations.most_sentinels(raw, rate)
  return spans.noise_counts(raw, rate, mean)[1] if mean else 1


def sizes(raw: int, rate: float, mean: float | str) -> tuple[int, int, int]:
  """Most tokens of a piece of `raw` tokens after a denoiser's corruption.

  Those of the inputs, of the targets, and of both together.
  """
  if mean == IID:  # four deviations of noise, as of its runs; see iid_spans
    marks = most_sentinels(raw, rate, mean)
    noise = round(raw * rate + 4 * (raw * rate * (1 - rate)) ** 0.5)
    return raw + 1, min(noise, raw) + marks + 1, raw + 2 * marks + 1
  if not mean and rate == 1:
    return 1, raw + 1, raw + 2
  if not mean and not rate:
    return max(raw, 1), raw + (raw < 2), raw + 2
  if not mean:
    limit = suffix_limit(raw, rate)
    return raw + 1 + (not limit), limit + 2, raw + 4
  noise, count = spans.noise_counts(raw, rate, mean)
  return raw - noise + count + 1, noise + count + 1, raw + 2 * count + 2


def cut(
  documents: Sequence[np.ndarray],
  lengths: Sequence[int],
  shares: Sequence[float],
  rng: np.random.Generator,
  concatenate: bool,
) -> list[tuple[int, np.ndarray]]:
  """Documents -> (denoiser, [N, L]) for each denoiser and length of piece.

  The denoiser of each piece is drawn by the shares; a piece of denoiser n has
  lengths[n] tokens. The last piece of a document (or of all documents, if they
  are joined) has what is left.
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
  documents: Sequence[np.ndarray],
  rng: np.random.Generator,
  denoisers: Sequence[tuple[str, float, float | str, float]],
  modes: Sequence[Sequence[int]],
  lengths: Sequence[int],
  sentinels: np.ndarray,
  eos: int,
  concatenate: bool,
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Examples of all denoisers: a list of (inputs [N, I], targets [N, J]).

  `modes` has the ids of each denoiser's mode, `lengths` its pieces' tokens.

    tokens   Thank you for inviting me to your party last week
    [R]      inputs   [R] Thank you <0> me to your party <1> week </s>
             targets  <0> for inviting <1> last </s>
    [S]      inputs   [S] Thank you for inviting me to your <0> </s>
             targets  <0> party last week </s>
    rate 1   inputs   </s>
             targets  Thank you for inviting me to your party last week </s>
  """
  examples, shares = [], [share for *_, share in denoisers]
  for kind, tokens in cut(documents, lengths, shares, rng, concatenate):
    _, rate, mean, _ = denoisers[kind]
    if mean == IID:
      noise = lengths[kind], rate, mean
      inputs, targets = t5_ablations.iid_spans(
        tokens, rng, rate, sentinels[: most_sentinels(*noise)], eos,
        sizes(*noise)[1],
      )  # fmt: skip
    elif mean:
      inputs, targets = spans.span_corruption(
        tokens, rng, rate, mean, sentinels, eos
      )
    elif rate in (0, 1):
      kept = np.zeros(len(tokens), int) if rate else None
      inputs, targets = prefixes.prefix_lm(tokens, rng, eos, kept)
    else:
      inputs, targets = suffix_corruption(tokens, rng, rate, sentinels[0], eos)
    mode = np.tile(np.array(modes[kind], np.int32), [len(inputs), 1])
    examples.append((np.hstack([mode, inputs]), targets))
  return examples
