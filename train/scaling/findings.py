"""What a fit says, as plain values for law.json, and what to beware of."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from configs.scaling.laws import Law
from train.scaling import optimum, solving
from train.scaling.forms import FORMS, Form
from train.scaling.points import Points
from train.scaling.profiles import Frontier
from train.scaling.solving import Fit

LOOSE = 30.0  # an interval over so large a factor says: not determined
OUTLIER = 20.0  # times the median |residual|
STARVED = 8.0  # times the optimal size of its FLOPs: a run is undertrained


@dataclasses.dataclass(frozen=True)
class Found:
  """A fit of either kind, for predictions.

  Attributes:
    name: of the law.
    form: None for a frontier (isoflop, envelope).
    thetas: the fit's parameters, then those of the samples [1 + K, P]; of a
      frontier its lines [1 + K, 4].
    per_pair: FLOPs of a parameter and a token.
    ranges: (low, high) of params, tokens and flops of the runs.
    share: of the samples that an interval holds.
  """

  name: str
  form: Form | None
  thetas: np.ndarray
  per_pair: float
  ranges: dict[str, tuple[float, float]]
  share: float

  def triple(self, values: np.ndarray) -> list[float]:
    """[value, low, high] of the fit's value and those of the samples."""
    return [float(values[0]), *optimum.interval(values[1:], self.share)]

  def best(self, flops: float, unique: float = 0.0) -> dict[str, Any]:
    """N, D and loss of a budget, each [value, low, high], and warnings.

    L(C) says the loss alone.
    """
    if self.form and self.form.inputs == ('flops',):
      return self.loss(flops=flops)
    if self.form:
      found = optimum.best(self.form, self.thetas, flops, self.per_pair, unique)
      sizes = {'params': found.params, 'tokens': found.tokens}
      loss = {'loss': self.triple(found.loss)}
    else:
      lines = self.thetas.reshape(-1, 2, 2)
      logs = lines[..., 0] + lines[..., 1] * np.log(flops)
      sizes, loss = {'params': np.exp(logs[:, 0])}, {}
      sizes['tokens'] = np.exp(logs[:, 1])
    sizes['tokens_per_param'] = sizes['tokens'] / sizes['params']
    row = {'flops': flops, **{k: self.triple(x) for k, x in sizes.items()}}
    at = {'flops': flops} | {k: row[k][0] for k in ('params', 'tokens')}
    return {**row, **loss, 'warnings': self.outside(at)}

  def loss(self, **sizes: float) -> dict[str, Any]:
    """The loss of a run, [value, low, high], and warnings.

    Raises ValueError if the law needs a size that is not given.
    """
    missing = [x for x in self.form.inputs if not sizes.get(x)]
    if missing:
      raise ValueError(
        f'The law {self.name} predicts from {", ".join(self.form.inputs)}: '
        f'give --{" and --".join(missing)}.'
      )
    inputs = np.array([[sizes[x]] for x in self.form.inputs])
    losses = solving.predict(self.form, self.thetas, inputs)[:, 0]
    sizes = {k: sizes[k] for k in self.form.inputs}
    return sizes | {
      'loss': self.triple(losses),
      'warnings': self.outside(sizes),
    }

  def outside(self, sizes: dict[str, float]) -> list[str]:
    """Where a run lies outside of the runs that were fitted."""
    found = []
    for name, value in sizes.items():
      low, high = self.ranges.get(name, (0.0, np.inf))
      if value > high * 1.001:
        found.append(
          f'{name} {value:.3g} extrapolates: {value / high:.3g} times the '
          f'largest of the runs, {high:.3g}.'
        )
      elif value < low / 1.001:
        found.append(
          f'{name} {value:.3g} extrapolates: {low / value:.3g} times below the '
          f'smallest of the runs, {low:.3g}.'
        )
    return found


def found_of(
  name: str, fitted: Fit | Frontier, points: Points, share: float
) -> Found:
  """A fit, ready to predict."""
  ranges = {
    k: (float(points.column(k).min()), float(points.column(k).max()))
    for k in ('params', 'tokens', 'flops', *points.others)
  }
  if isinstance(fitted, Fit):
    thetas = np.concatenate([fitted.theta[None], fitted.samples])
    return Found(name, fitted.form, thetas, points.per_pair, ranges, share)
  lines = np.concatenate([fitted.lines[None], fitted.samples])
  return Found(name, None, lines.reshape(-1, 4), points.per_pair, ranges, share)


def as_json(found: Found, warnings: Sequence[str]) -> dict[str, Any]:
  """The values of law.json; `from_json` reads them."""
  if found.form:
    values = found.form.values(found.thetas)
    values |= optimum.exponents(found.form, found.thetas)
  else:
    k, a, k2, b = found.thetas.T
    values = {'k': np.exp(k), 'a': a, "k'": np.exp(k2), 'b': b}
  return {
    'law': found.name,
    'text': found.form.text if found.form else "N_opt = k C^a, D_opt = k' C^b",
    'parameters': {name: found.triple(x) for name, x in values.items()},
    'interval': found.share,
    'per_pair': found.per_pair,
    'ranges': {name: list(x) for name, x in found.ranges.items()},
    'warnings': list(warnings),
    'thetas': [[float(f'{x:.9g}') for x in row] for row in found.thetas],
  }


def from_json(saved: dict[str, Any]) -> Found:
  """Inverse of `as_json`. Raises KeyError or ValueError if it is damaged."""
  thetas = np.array(saved['thetas'], float)
  ranges = {name: tuple(x) for name, x in saved['ranges'].items()}
  form = FORMS.get(saved['law'])
  if form is None and saved['law'] not in ('isoflop', 'envelope'):
    raise ValueError(f'there is no law {saved["law"]!r}')
  per_pair, share = float(saved['per_pair']), float(saved['interval'])
  return Found(saved['law'], form, thetas, per_pair, ranges, share)


def warnings_of(fit: Fit, found: Found, points: Points) -> list[str]:
  """What to know before believing a fitted law."""
  said = []
  for name, x in fit.form.values(fit.samples).items():
    low, high = optimum.interval(x, 0.95)
    if name in fit.form.logs and high > LOOSE * low:
      said.append(
        f'{name} is not determined: 95% of the resampled tables have it '
        f'between {low:.3g} and {high:.3g}. Add runs of other sizes.'
      )
  if any(x < 0 for x in fit.theta[[n not in fit.form.logs
                                   for n in fit.form.names]]):  # fmt: skip
    said.append('An exponent is negative: the loss grows with a size.')
  typical = np.median(np.abs(fit.residuals))
  far = np.flatnonzero(np.abs(fit.residuals) > OUTLIER * typical)
  if len(far) and typical > 1e-9:
    high = {*far} == {*np.argsort(-points.loss)[: len(far)]}
    said.append(
      f'{len(far)} of {len(points)} runs lie more than {OUTLIER:g} times the '
      'median residual away: '
      + ', '.join(points.runs[i] for i in far[:8])
      + (f'. They have the highest losses: see --drop_highest={len(far)}.'
         if high else '.')
    )  # fmt: skip
  if fit.form.inputs[:2] == ('params', 'tokens'):
    said += _starved(fit, points) + _edges(fit, points)
  return said


def _starved(fit, points):
  """Runs far too large for their tokens."""
  theta = fit.theta[None]
  C = np.geomspace(points.flops.min(), points.flops.max() * 1.0001, 24)
  sizes = [
    optimum.best(fit.form, theta, c, points.per_pair).params[0] for c in C
  ]
  ideal = np.exp(np.interp(np.log(points.flops), np.log(C), np.log(sizes)))
  count = int((points.params > STARVED * ideal).sum())
  if not count:
    return []
  return [
    (
      f'{count} of {len(points)} runs are undertrained: their models are more '
      f'than {STARVED:g} times as large as is best for their FLOPs.'
    )
  ]


def _edges(fit, points):
  """Whether the best sizes lie among those that were trained."""
  said = []
  low, high = points.params.min(), points.params.max()
  for which, C in (('largest', points.flops.max()),
                   ('smallest', points.flops.min())):  # fmt: skip
    N = optimum.best(fit.form, fit.theta[None], C, points.per_pair).params[0]
    if not low <= N <= high:
      beyond = 'above the largest' if high < N else 'below the smallest'
      said.append(
        f'The best size of the {which} budget, {N:.3g} parameters at {C:.3g} '
        f'FLOPs, lies {beyond} that was trained, '
        f'{high if high < N else low:.3g}: the optimum is at the edge.'
      )
  return said


def beside(law: Law, found: Found, points: Points) -> dict[str, Any]:
  """A published law on these runs, and its interval beside the fit's.

  Returns:
    `objective` of both laws, the `mean_residual` of the published one (log loss
    minus its prediction), `exponents`: for each of a and b [value, low, high]
    of the fit, the published (low, high), and `missed`, whether they have
    nothing in common; and `runs_needed` for an interval as narrow, which
    shrinks with the root of the number of runs.
  """
  form = FORMS['chinchilla']
  theta = form.theta({name: getattr(law, name) for name in form.names})
  inputs = np.exp(solving.inputs_of(form, points))
  residuals = np.log(points.loss / solving.predict(form, theta, inputs))
  ours = optimum.exponents(form, found.thetas)
  shown = {}
  for name, published in zip('ab', law.exponents, strict=False):
    value, low, high = found.triple(ours[name])
    width = (high - low) / (published[1] - published[0])
    shown[name] = {
      'fit': [value, low, high],
      'published': list(published),
      'missed': bool(published[0] > high or published[1] < low),
      'runs_needed': int(len(points) * width**2),
    }
  return {
    'paper': law.paper,
    'objective': solving.huber_sum(form, theta, points),
    'objective_of_fit': solving.huber_sum(form, found.thetas[0], points),
    'mean_residual': float(residuals.mean()),
    'exponents': shown,
  }
