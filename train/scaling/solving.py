"""Least Huber loss of log L: from many starts, and for resampled runs.

Hoffmann et al. 2022, 3.3: the sum over runs of Huber(log L - predicted log L)
with delta = 1e-3, minimised from a grid of starts, of which the best counts.
They used L-BFGS. Here it is Gauss-Newton with weights (iteratively reweighted
least squares) and a Levenberg-Marquardt damping, which takes many starts, or
resampled tables, side by side, and ends when nothing changes: no tolerance
stops it early.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.scaling.forms import Form
from train.scaling.points import Points

DELTA = 1e-3
# Turns from every start, and how many of the best go on; the last is whole.
_ROUNDS = (5, 400), (12, 48), (300, 1)
_RESAMPLED = 70  # turns from the fit, for a resampled table
_AT_ONCE = 500  # resampled tables in memory


class Fit(NamedTuple):
  """A fitted law.

  Attributes:
    form: the law.
    theta: its parameters [P].
    samples: those of each resampled table [K, P].
    residuals: log L - predicted log L [n].
    objective: sum of the Huber losses.
    agreeing: of the finalists, the share that ended at this objective.
  """

  form: Form
  theta: np.ndarray
  samples: np.ndarray
  residuals: np.ndarray
  objective: float
  agreeing: float


def inputs_of(form: Form, points: Points) -> np.ndarray:
  """The logarithms of a law's inputs: [I, n].

  Raises ValueError if the points lack one.
  """
  return np.log(np.stack([points.column(name) for name in form.inputs]))


def fit(
  form: Form, points: Points, resampled: int = 1000, seed: int = 0
) -> Fit:
  """Fits a law, and again to tables of runs drawn with replacement.

  Raises:
    ValueError: there are too few runs, or too few different sizes.
  """
  check(form, points)
  with _precise():
    x = jnp.asarray(inputs_of(form, points))
    y = jnp.asarray(np.log(points.loss))
    ones = jnp.ones(len(points))
    solve = functools.partial(_solve, form.predict, x, y)
    many = jax.jit(jax.vmap(solve, (0, None, None)))
    found = form.starts
    for turns, left in _ROUNDS:
      found, losses = map(np.asarray, many(jnp.asarray(found), ones, turns))
      order = np.argsort(losses, kind='stable')  # what is no number: last
      found = found[order[:left]]
    theta, least = found[0], float(np.nanmin(losses))
    agreeing = float(np.mean(losses < least * (1 + 1e-6) + 1e-15))
    weights = draws(points, resampled, seed)
    refit = jax.jit(jax.vmap(solve, (None, 0, None)))
    parts = [
      np.asarray(refit(jnp.asarray(theta), jnp.asarray(part), _RESAMPLED)[0])
      for part in np.split(weights, range(_AT_ONCE, resampled, _AT_ONCE))
      if len(part)
    ]
    samples = np.concatenate([np.zeros((0, len(theta))), *parts])
    residuals = np.asarray(y - form.predict(jnp.asarray(theta), x))
  return Fit(form, theta, samples, residuals, least, agreeing)


def predict(form: Form, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Losses [..., n] of parameters [..., P] at inputs [I, n] or [..., I, n]."""
  with _precise():
    inputs = jnp.log(jnp.asarray(x, jnp.float64))
    call = form.predict
    for _ in theta.shape[:-1]:
      call = jax.vmap(call, (0, 0 if inputs.ndim > 2 else None))
    return np.exp(np.asarray(call(jnp.asarray(theta), inputs)))


def huber_sum(form: Form, theta: np.ndarray, points: Points) -> float:
  """The objective at given parameters."""
  with _precise():
    x, y = jnp.asarray(inputs_of(form, points)), np.log(points.loss)
    r = jnp.asarray(y) - form.predict(jnp.asarray(theta), x)
    return float(_huber(r).sum())


def check(form: Form, points: Points) -> None:
  """Raises ValueError if the points cannot determine the law."""
  count = len(form.names)
  if len(points) < count + 1:
    raise ValueError(
      f'{points.source} has {len(points)} runs, but the law has {count} '
      f'parameters: {count + 1} runs are the least, and several times as many '
      'give an interval that means something.'
    )
  for name in form.inputs:
    different = len(np.unique(np.round(np.log(points.column(name)), 3)))
    least = 3 if form.names[2:3] == ('E',) and name != 'unique' else 2
    if different < least:
      raise ValueError(
        f'{points.source}: all runs have {different} different values of '
        f'{name}; the law needs {least} or more.'
      )


def draws(points, count, seed):
  """How often each point is in each resampled table: [count, n]."""
  names = {name: i for i, name in enumerate(dict.fromkeys(points.runs))}
  of = np.array([names[name] for name in points.runs])
  rng = np.random.default_rng(seed)
  shares = np.full(len(names), 1 / len(names))
  drawn = rng.multinomial(len(names), shares, size=count)
  return drawn[:, of].astype(float)


def _huber(r):
  size = jnp.abs(r)
  return jnp.where(size < DELTA, r * r / 2, DELTA * (size - DELTA / 2))


def _solve(predict, x, y, theta, weights, turns) -> tuple[Any, Any]:
  """Parameters of a least objective near `theta`, and that objective."""

  def loss(t):
    return (weights * _huber(y - predict(t, x))).sum()

  def turn(_, state):
    t, damping, old = state
    r, J = y - predict(t, x), jax.jacfwd(predict)(t, x)
    w = weights * jnp.minimum(1, DELTA / jnp.maximum(jnp.abs(r), 1e-300))
    H = (J * w[:, None]).T @ J
    H += damping * jnp.diag(jnp.diag(H)) + 1e-300 * jnp.eye(len(t))
    new = t + jnp.linalg.solve(H, J.T @ (w * r))
    value = loss(new)
    better = value < old  # False where it is not a number
    return (
      jnp.where(better, new, t),
      jnp.where(better, damping / 5, jnp.minimum(damping * 4, 1e8)),
      jnp.where(better, value, old),
    )

  begun = theta, jnp.asarray(1e-2), loss(theta)
  t, _, value = jax.lax.fori_loop(0, turns, turn, begun)
  return t, value


def _precise():
  """float64 on the CPU, whatever other devices there are."""
  stack = contextlib.ExitStack()
  stack.enter_context(jax.enable_x64(True))
  stack.enter_context(jax.default_device(jax.local_devices(backend='cpu')[0]))
  return stack
