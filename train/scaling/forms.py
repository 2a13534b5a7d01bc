"""The laws that can be fitted: loss as a function of a run's sizes.

Each predicts log L, from the logarithms of its inputs, with parameters that are
logarithms too where they are scales, so that all may be any real number.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

# Hoffmann et al. 2022, 3.3: the grid of starts (its values are from memory).
_EXPONENTS = (0.0, 0.5, 1.0, 1.5, 2.0)
_SCALES = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_FLOORS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Form:
  """A law.

  Attributes:
    text: as it is written, and where it is from.
    inputs: the columns that it reads.
    names: of its parameters, in order.
    logs: those of which theta has the logarithm.
    grid: values of each parameter of theta from which a fit starts.
    predict: (theta [P], log inputs [I, n]) -> log loss [n].
  """

  text: str
  inputs: tuple[str, ...]
  names: tuple[str, ...]
  logs: frozenset[str]
  grid: tuple[tuple[float, ...], ...]
  predict: Callable

  @property
  def starts(self) -> np.ndarray:
    """All starts of a fit: [K, P]."""
    return np.array([*itertools.product(*self.grid)])

  def values(self, theta: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters by name; theta is [..., P]."""
    return {
      name: np.exp(theta[..., i]) if name in self.logs else theta[..., i]
      for i, name in enumerate(self.names)
    }

  def theta(self, values: dict[str, float]) -> np.ndarray:
    """Inverse of `values`."""
    return np.array([
      np.log(values[name]) if name in self.logs else values[name]
      for name in self.names
    ])  # fmt: skip


def _chinchilla(t, x):
  a, b, e, alpha, beta = t[:5]
  terms = a - alpha * x[0], b - beta * x[1], e + 0 * x[0]
  return logsumexp(jnp.stack(terms), 0)


def _power(t, x):
  return t[1] * (t[0] - x[0])


def _kaplan(t, x):
  n, d, alpha_n, alpha_d = t
  inner = alpha_n / alpha_d * (n - x[0]), d - x[1]
  return alpha_d * logsumexp(jnp.stack(inner), 0)


def _kaplan_steps(t, x):
  n, s, alpha_n, alpha_s = t
  terms = alpha_n * (n - x[0]), alpha_s * (s - x[1])
  return logsumexp(jnp.stack(terms), 0)


def _muennighoff(t, x):
  a, b, _, alpha, beta, log_d, log_n = t
  D, unique = x[1], jnp.minimum(x[2], x[1])
  # The size that is optimal for the unique tokens: of N = G (C/6)^a and
  # D = G^-1 (C/6)^b with D = U.
  log_g = (jnp.log(alpha) + a - jnp.log(beta) - b) / (alpha + beta)
  base = jnp.minimum(x[0], log_g + beta / alpha * (unique + log_g))
  data = unique + jnp.log1p(_repeated(D - unique, log_d))
  size = base + jnp.log1p(_repeated(x[0] - base, log_n))
  return _chinchilla(t, jnp.stack([size, data]))


def _repeated(log_ratio, log_scale):
  """R* (1 - exp(-R / R*)), where R + 1 is the ratio."""
  scale = jnp.exp(log_scale)
  return -scale * jnp.expm1(-jnp.expm1(log_ratio) / scale)


_FIVE = 'A', 'B', 'E', 'alpha', 'beta'
_PAIR = tuple(float(x) for x in range(0, 60, 6))
FORMS = {
  'chinchilla': Form(
    'L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, 3.3)',
    ('params', 'tokens'),
    _FIVE,
    frozenset('ABE'),
    (_SCALES, _SCALES, _FLOORS, _EXPONENTS, _EXPONENTS),
    _chinchilla,
  ),
  'kaplan': Form(
    'L(N, D) = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D '
    '(Kaplan et al. 2020, 1.5)',
    ('params', 'tokens'),
    ('N_c', 'D_c', 'alpha_N', 'alpha_D'),
    frozenset({'N_c', 'D_c'}),
    (_PAIR, _PAIR, (0.05, 0.1, 0.2, 0.4), (0.05, 0.1, 0.2, 0.4)),
    _kaplan,
  ),
  'kaplan_steps': Form(
    'L(N, S) = (N_c / N)^alpha_N + (S_c / S_min)^alpha_S '
    '(Kaplan et al. 2020, 1.6)',
    ('params', 'steps'),
    ('N_c', 'S_c', 'alpha_N', 'alpha_S'),
    frozenset({'N_c', 'S_c'}),
    (_PAIR, _PAIR, (0.05, 0.1, 0.2, 0.4), (0.1, 0.3, 0.7, 1.2)),
    _kaplan_steps,
  ),
  'muennighoff': Form(
    'L(N, D, U) = E + A / N\'^alpha + B / D\'^beta, where D\' = U + U R_D '
    '(1 - exp(-(D/U - 1) / R_D)), and N\' likewise with the size that is '
    'optimal for U (Muennighoff et al. 2023, 3)',
    ('params', 'tokens', 'unique'),
    (*_FIVE, 'R_D', 'R_N'),
    frozenset((*'ABE', 'R_D', 'R_N')),
    (
      *((3.0, 6.0, 10.0), (3.0, 6.0, 10.0), (0.0, 0.5)),
      *((0.2, 0.35, 0.6), (0.2, 0.35, 0.6), (1.0, 2.7), (1.0, 2.7)),
    ),
    _muennighoff,
  ),
} | {
  f'kaplan_{letter.lower()}': Form(
    f'L({letter}) = ({letter}_c / {letter})^alpha_{letter} '
    '(Kaplan et al. 2020, 1.2)',
    (column,),
    (f'{letter}_c', f'alpha_{letter}'),
    frozenset({f'{letter}_c'}),
    (_PAIR, (0.02, 0.05, 0.1, 0.2, 0.4)),
    _power,
  )
  for letter, column in (('N', 'params'), ('D', 'tokens'), ('C', 'flops'))
}  # fmt: skip
