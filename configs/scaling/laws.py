"""Published scaling laws, and what they say of a budget."""

import math
from typing import NamedTuple

PF_DAY = 8.64e19  # FLOPs (Kaplan et al. 2020)


class Law(NamedTuple):
  """L(N, D) = E + A / N^alpha + B / D^beta, nats per token.

  Attributes:
    paper: where its numbers are from.
    E, A, B, alpha, beta: the parameters.
    exponents: (low, high) of a and of b in N_opt ~ C^a and D_opt ~ C^b, the
      10th and 90th percentile as published; () if none were.
  """

  paper: str
  E: float
  A: float
  B: float
  alpha: float
  beta: float
  exponents: tuple[tuple[float, float], ...] = ()

  @property
  def a(self) -> float:
    """N_opt = G (C/6)^a (Hoffmann et al. 2022, 3.3)."""
    return self.beta / (self.alpha + self.beta)

  def loss(self, params: float, tokens: float) -> float:
    return self.E + self.A / params**self.alpha + self.B / tokens**self.beta

  def best(self, flops: float, per_pair: float = 6.0) -> tuple[float, float]:
    """(N, D) of least loss among those of `flops` = per_pair N D."""
    ratio = self.alpha * self.A / (self.beta * self.B)
    G = ratio ** (1 / (self.alpha + self.beta))
    N = G * (flops / per_pair) ** self.a
    return N, flops / per_pair / N

  def flops_for(self, loss: float, per_pair: float = 6.0) -> float:
    """The fewest FLOPs that reach a loss; inf if none do."""
    low, high = 0.0, 200.0  # of their logarithm
    if loss <= self.loss(*self.best(math.exp(high), per_pair)):
      return math.inf
    while high - low > 1e-10:
      middle = (low + high) / 2
      reached = self.loss(*self.best(math.exp(middle), per_pair))
      low, high = (low, middle) if reached <= loss else (middle, high)
    return math.exp(high)


# E, A, B, alpha, beta.
LAWS = {
  # Hoffmann et al. 2022, 3.3 and table 2 (approach 3); E to four digits is from
  # memory, and alpha and beta those of the paper's source, which 3.3 rounds.
  'hoffmann': Law(
    'Hoffmann et al. 2022', 1.6934, 406.4, 410.7, 0.3392, 0.2849,
    ((0.454, 0.455), (0.542, 0.543)),
  ),
  # Besiroglu et al. 2024: the same runs, read from a figure, fitted again.
  'besiroglu': Law(
    'Besiroglu et al. 2024', 1.8172, 482.01, 2085.43, 0.3478, 0.3658
  ),
}  # fmt: skip


def kaplan_best(flops: float) -> float:
  """N of a budget, of Kaplan et al. 2020, table 6: 1.3e9 C^.73 PF-days.

  N leaves out embeddings. C is C_min, of a batch far below the critical one.
  """
  return 1.3e9 * (flops / PF_DAY) ** 0.73
