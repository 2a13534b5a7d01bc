"""What a law predicts: losses, and the best N and D of a budget of FLOPs."""

from typing import NamedTuple

import numpy as np

from train.scaling import solving
from train.scaling.forms import Form

_SIZES = 161  # sizes that are compared, then again between the best ones
_LEAST = 1e2  # parameters, and tokens, of the smallest run


class Optimum(NamedTuple):
  """The best run of a budget; arrays have an entry for each theta.

  Attributes:
    params: N.
    tokens: D.
    loss: nats per token.
  """

  params: np.ndarray
  tokens: np.ndarray
  loss: np.ndarray


def exponents(form: Form, thetas: np.ndarray) -> dict[str, np.ndarray]:
  """a and b of N_opt = G (C/6)^a, D_opt = G^-1 (C/6)^b; {} without them.

  a = beta / (alpha + beta) (Hoffmann et al. 2022, 3.3).
  """
  if form.names[3:5] != ('alpha', 'beta'):
    return {}
  alpha, beta = thetas[..., 3], thetas[..., 4]
  return {'a': beta / (alpha + beta), 'b': alpha / (alpha + beta)}


def best(
  form: Form,
  thetas: np.ndarray,
  flops: float,
  per_pair: float = 6.0,
  unique: float = 0.0,
) -> Optimum:
  """The run of least loss among those of `flops` = per_pair N D.

  Args:
    form: a law of params and tokens.
    thetas: its parameters [K, P].
    flops: C.
    per_pair: FLOPs of a parameter and a token.
    unique: tokens of the text, for a law that reads them; 0: as many as are
      needed.

  Raises:
    ValueError: the law does not know both sizes.
  """
  if form.inputs[:2] != ('params', 'tokens'):
    raise ValueError(
      f'The law of {" and ".join(form.inputs)} has no best size for a budget: '
      'it takes a law of params and tokens, such as chinchilla.'
    )
  pairs = flops / per_pair
  if form.names == ('A', 'B', 'E', 'alpha', 'beta'):
    return _closed(form, thetas, pairs)
  low, high = np.log(_LEAST), np.log(pairs / _LEAST)
  if low >= high:
    raise ValueError(f'A budget of {flops:g} FLOPs is too small for any run.')
  low = np.full(len(thetas), low)
  high = np.full(len(thetas), high)
  for _ in range(4):
    logs = np.linspace(low, high, _SIZES, axis=-1)  # [K, sizes]
    losses = _losses(form, thetas, logs, pairs, unique)
    place = np.argmin(losses, axis=-1)[:, None]
    step = (high - low) / (_SIZES - 1)
    middle = np.take_along_axis(logs, place, -1)[:, 0]
    low, high = middle - step, middle + step
  N = np.exp(middle)
  loss = np.take_along_axis(losses, place, -1)[:, 0]
  return Optimum(N, pairs / N, loss)


def _closed(form, thetas, pairs):
  """N_opt = G (C/6)^a (Hoffmann et al. 2022, 3.3, equation 4)."""
  a, b, _, alpha, beta = thetas.T
  with np.errstate(all='ignore'):  # a sample with an exponent of 0 has none
    log_g = (np.log(alpha / beta) + a - b) / (alpha + beta)
    N = np.exp(log_g + beta / (alpha + beta) * np.log(pairs))
  losses = solving.predict(form, thetas, np.stack([N, pairs / N], 1)[..., None])
  return Optimum(N, pairs / N, losses[:, 0])


def _losses(form, thetas, logs, pairs, unique):
  N = np.exp(logs)
  inputs = [N, pairs / N]
  if 'unique' in form.inputs:
    inputs.append(np.full_like(N, unique) if unique else pairs / N)
  return solving.predict(form, thetas, np.stack(inputs, axis=1))


def interval(values: np.ndarray, share: float) -> tuple[float, float]:
  """The middle `share` of resampled values."""
  values = values[np.isfinite(values)]
  if not len(values):
    return float('nan'), float('nan')
  low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
  return float(low), float(high)
