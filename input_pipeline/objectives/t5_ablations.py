"""T5's other objectives, compared with its span corruption.

Raffel et al. 2020, 3.3, and its published code: BERT-style and MASS-style
masking, i.i.d. spans, dropped tokens, deshuffling; prefix language modelling is
in prefixes.py. Every function takes tokens [N, L] and returns inputs and
targets, which end with EOS. pieces.NOTHING fills rows that are shorter.
"""

import numpy as np

from input_pipeline.objectives.pieces import end_rows, line_up


def bert_style(
  tokens: np.ndarray,
  rng: np.random.Generator,
  noise_density: float,
  random_share: float,
  sentinel: int,
  ordinary: np.ndarray,
  eos: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Noise drawn token by token and masked; the targets are the whole text.

  A share of the noise reads any of the `ordinary` ids, the rest the one
  `sentinel`. MASS-style is the same with a share of 0.

    tokens   Thank you for inviting me to your party
    inputs   Thank <0> for <0> apple to your party </s>
    targets  Thank you for inviting me to your party </s>
  """
  noise = rng.random(tokens.shape) < noise_density
  other = rng.random(tokens.shape) < random_share
  drawn = ordinary[rng.integers(len(ordinary), size=tokens.shape)]
  inputs = np.where(noise, np.where(other, drawn, sentinel), tokens)
  return end_rows(inputs, eos), end_rows(tokens, eos)


def iid_spans(
  tokens: np.ndarray,
  rng: np.random.Generator,
  noise_density: float,
  sentinels: np.ndarray,
  eos: int,
  target_length: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Noise drawn token by token; a sentinel replaces each run of it.

  Inputs show a sentinel for each run of noise, targets one for each run that is
  kept. Both count their sentinels from 0, as in T5's code.

    tokens   Thank you for inviting me to your party
    noise      0    1   0     1     1  0   0     0
    inputs   Thank <0> for <1> to your party </s>
    targets  <0> you <1> inviting me <2> </s>

  T5 cuts targets at `target_length`. Here noise is kept instead if the targets
  have no room for it, or if no sentinel is left for its run, so no token is
  lost.
  """
  noise = rng.random(tokens.shape) < noise_density
  used = np.cumsum(noise | run_starts(~noise), axis=1)
  runs = np.cumsum(run_starts(noise), axis=1)
  # One more run that is kept, and EOS, may follow.
  noise &= (used <= target_length - 2) & (runs < len(sentinels))
  return (
    replace_runs(tokens, noise, sentinels, eos),
    replace_runs(tokens, ~noise, sentinels, eos),
  )


def most_sentinels(length: int, noise_density: float) -> int:
  """Sentinels that are enough for i.i.d. noise in a piece of `length` tokens.

  The number of runs is nearly normal: one piece in 30,000 has more than the
  mean and four deviations.

  >>> most_sentinels(511, 0.15)
  92
  """
  runs = length * noise_density * (1 - noise_density)
  spread = (runs * (1 - 3 * noise_density * (1 - noise_density))) ** 0.5
  return round(runs + 4 * spread) + 1


def drop_tokens(
  tokens: np.ndarray,
  rng: np.random.Generator,
  noise_density: float,
  eos: int,
  target_length: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Noise drawn token by token and left out; the targets are the noise.

    tokens   Thank you for inviting me to your party
    inputs   Thank for to your party </s>
    targets  you inviting me </s>

  Noise beyond `target_length` is kept.
  """
  noise = rng.random(tokens.shape) < noise_density
  noise &= np.cumsum(noise, axis=1) < target_length
  return line_up(tokens, ~noise, [], [eos]), line_up(tokens, noise, [], [eos])


def deshuffling(
  tokens: np.ndarray, rng: np.random.Generator, eos: int
) -> tuple[np.ndarray, np.ndarray]:
  """A piece in random order; the targets are the piece.

  tokens   Thank you for inviting me
  inputs   me for Thank inviting you </s>
  targets  Thank you for inviting me </s>
  """
  return end_rows(rng.permuted(tokens, axis=1), eos), end_rows(tokens, eos)


def run_starts(chosen: np.ndarray) -> np.ndarray:
  """Where runs begin: bool [N, L], 0 1 1 0 1 -> 0 1 0 0 1."""
  starts = chosen.copy()
  starts[:, 1:] &= ~chosen[:, :-1]
  return starts


def replace_runs(
  tokens: np.ndarray, chosen: np.ndarray, sentinels: np.ndarray, eos: int
) -> np.ndarray:
  """Each run of `chosen` tokens becomes one sentinel: [N, L] -> [N, I].

  tokens 5 6 7 8   chosen 0 1 1 0   ->   5 <0> 8 </s>
  """
  starts = run_starts(chosen)
  number = np.cumsum(starts, axis=1) - 1
  marked = np.where(starts, sentinels[number], tokens)
  return line_up(marked, starts | ~chosen, [], [eos])
