"""Chinchilla's approaches 1 and 2: optima seen directly, without a law of loss.

Hoffmann et al. 2022. Approach 2 (3.2): runs of equal FLOPs and different sizes,
an isoFLOP profile, whose loss is a parabola of log N; its lowest point is the
optimal size. Approach 1 (3.1): the envelope of training curves, at each number
of FLOPs the size whose curve is lowest. Both end in a line: log N_opt and log
D_opt against log C, whose slopes are a and b.
"""

import dataclasses

import numpy as np

from train.scaling import solving
from train.scaling.points import Points

LEAST = 4  # sizes of a profile: one more than a parabola has coefficients
GRID = 1500  # numbers of FLOPs of the envelope (Hoffmann et al. 2022, 3.1)


@dataclasses.dataclass(frozen=True)
class Profile:
  """Runs of about equal FLOPs.

  Attributes:
    flops: C, their geometric mean.
    places: of its points.
    curve: coefficients of the parabola in log N, the highest power first.
    params: N of the lowest point; nan if the parabola has none.
    loss: there.
    edge: how it lies outside of the sizes that were tried; '': inside.
  """

  flops: float
  places: np.ndarray
  curve: np.ndarray
  params: float
  loss: float
  edge: str


@dataclasses.dataclass(frozen=True)
class Frontier:
  """Optimal sizes against FLOPs, N_opt = k C^a and D_opt = k' C^b.

  Attributes:
    name: of the approach.
    flops: C of each optimum.
    params: N of each.
    tokens: D of each.
    lines: [[log k, a], [log k', b]].
    samples: the same of resampled tables [K, 2, 2].
    profiles: approach 2's.
    warnings: what to know before believing it.
  """

  name: str
  flops: np.ndarray
  params: np.ndarray
  tokens: np.ndarray
  lines: np.ndarray
  samples: np.ndarray
  profiles: tuple[Profile, ...]
  warnings: tuple[str, ...]

  def optimum(self, flops: float) -> dict[str, np.ndarray]:
    """N and D of a budget, of the fit and then of each sample: [1 + K]."""
    lines = np.concatenate([self.lines[None], self.samples])
    logs = lines[..., 0] + lines[..., 1] * np.log(flops)
    return {'params': np.exp(logs[:, 0]), 'tokens': np.exp(logs[:, 1])}


def groups(
  points: Points, budgets: tuple[float, ...] = (), width: float = 1.2
) -> list[np.ndarray]:
  """The places of the points of each profile.

  Args:
    points: of several budgets.
    budgets: FLOPs of each profile, to which a run within a factor sqrt(width)
      belongs; none: windows of this width that hold the most sizes, the fullest
      first.
    width: the largest FLOPs of a profile over the smallest.

  Raises:
    ValueError: a budget has too few sizes.
  """
  logs = np.log(points.flops)
  found = []
  for budget in budgets:
    near = np.abs(logs - np.log(budget)) <= np.log(width) / 2 + 1e-9
    found.append(np.flatnonzero(near))
    if _sizes(points, found[-1]) < LEAST:
      raise ValueError(
        f'{points.source} has {_sizes(points, found[-1])} sizes within a '
        f'factor {np.sqrt(width):.2f} of {budget:g} FLOPs; a parabola needs '
        f'{LEAST}. Leave out this budget, or raise --width={width:g}.'
      )
  left = np.ones(len(points), bool)
  while not budgets:
    windows = [
      np.flatnonzero(
        left & (logs >= low - 1e-9) & (logs <= low + np.log(width) + 1e-9)
      )
      for low in logs[left]
    ]
    best = max(windows, key=lambda w: _sizes(points, w), default=())
    if len(best) == 0 or _sizes(points, best) < LEAST:
      break
    found.append(best)
    left[best] = False
  if len(found) < 2:
    raise ValueError(
      f'{points.source} has {len(found)} groups of {LEAST} sizes or more with '
      f'equal FLOPs, up to a factor {width:g}: an isoFLOP fit needs 2. Give '
      '--budgets, or raise --width.'
    )
  return sorted(found, key=lambda w: logs[w].mean())


def isoflop(
  points: Points,
  budgets: tuple[float, ...] = (),
  width: float = 1.2,
  resampled: int = 1000,
  seed: int = 0,
) -> Frontier:
  """Approach 2. Raises ValueError if there are too few profiles."""
  found = groups(points, budgets, width)
  profiles = [_profile(points, w, np.ones(len(points))) for w in found]
  inside = [p for p in profiles if not p.edge]
  warnings = [
    f'The profile of {p.flops:.3g} FLOPs {p.edge}: it is left out.'
    for p in profiles
    if p.edge
  ]
  if len(inside) < 2:
    raise ValueError(
      f'{points.source}: {len(inside)} of {len(profiles)} profiles have their '
      'lowest point among the sizes that were tried; two are needed. Train '
      f'larger or smaller sizes. {" ".join(warnings)}'
    )
  samples = []
  for weights in solving.draws(points, resampled, seed):
    again = [_profile(points, p.places, weights) for p in inside]
    again = [p for p in again if not p.edge]
    if len(again) > 1:
      samples.append(_lines(*_optima(points, again)))
  lost = resampled - len(samples)
  if lost > resampled / 20:
    warnings.append(
      f'{lost} of {resampled} resampled tables have no two profiles with a '
      'lowest point: the interval is of the others.'
    )
  optima = _optima(points, inside)
  return Frontier(
    'isoflop', *optima, _lines(*optima), np.array(samples).reshape(-1, 2, 2),
    tuple(profiles), tuple(warnings),
  )  # fmt: skip


def envelope(points: Points, resampled: int = 1000, seed: int = 0) -> Frontier:
  """Approach 1. The points of a run, or of one size, are a curve.

  Raises ValueError if there are fewer than three curves.
  """
  curves = _curves(points)
  if len(curves) < 3:
    raise ValueError(
      f'{points.source} has {len(curves)} curves, of two points or more each; '
      "an envelope needs 3. A curve's points have one name in the column run, "
      'or one number of parameters.'
    )
  sizes = np.array([points.params[w[0]] for w in curves])
  starts = [points.flops[w].min() for w in curves]
  ends = [points.flops[w].max() for w in curves]
  grid = np.geomspace(min(starts), max(ends), GRID)
  losses = np.full((len(curves), GRID), np.inf)
  for row, w in zip(losses, curves, strict=True):
    w = w[np.argsort(points.flops[w])]
    inside = (grid >= points.flops[w[0]]) & (grid <= points.flops[w[-1]])
    logs = np.log(grid[inside]), np.log(points.flops[w])
    row[inside] = np.interp(*logs, np.log(points.loss[w]))
  optima = _lowest(points, sizes, losses, grid)
  if len(set(optima[1])) < 2:
    raise ValueError(
      f'{points.source}: no two sizes between the smallest and the largest are '
      'the best at any FLOPs. Train smaller and larger sizes.'
    )
  samples = []
  rng = np.random.default_rng(seed)
  for _ in range(resampled):
    drawn = np.unique(rng.integers(0, len(curves), len(curves)))
    again = _lowest(points, sizes[drawn], losses[drawn], grid)
    if len(again[0]) > 2 and np.ptp(again[1]) > 0:
      samples.append(_lines(*again))
  warnings = []
  share = len(optima[0]) / max((np.isfinite(losses).sum(0) > 1).sum(), 1)
  if share < 0.75:
    warnings.append(
      f'At {1 - share:.0%} of the budgets the smallest or the largest size is '
      'the best: they are left out, since the optimum may lie beyond it.'
    )
  return Frontier(
    'envelope', *optima, _lines(*optima), np.array(samples).reshape(-1, 2, 2),
    (), tuple(warnings),
  )  # fmt: skip


def _profile(points, places, weights):
  """The parabola through the points of one budget, with weights."""
  x, y = np.log(points.params[places]), points.loss[places]
  w, middle = weights[places], x.mean()
  flops = float(np.exp(np.log(points.flops[places]).mean()))
  nothing = np.full(3, np.nan)
  if len(np.unique(np.round(x[w > 0], 6))) < 3:
    return Profile(flops, places, nothing, np.nan, np.nan, 'has too few sizes')
  k2, k1, k0 = np.polyfit(x - middle, y, 2, w=np.sqrt(w))
  curve = np.array(
    [k2, k1 - 2 * k2 * middle, k0 - k1 * middle + k2 * middle**2]
  )
  if k2 <= 0:
    edge = 'has no lowest point'
    return Profile(flops, places, curve, np.nan, np.nan, edge)
  vertex = middle - k1 / (2 * k2)
  edge = ''
  if vertex > x.max():
    edge = 'is lowest beyond its largest size'
  elif vertex < x.min():
    edge = 'is lowest below its smallest size'
  best = float(np.exp(np.clip(vertex, -300, 300)))
  return Profile(flops, places, curve, best, k0 - k1**2 / (4 * k2), edge)


def _optima(points, profiles):
  C = np.array([p.flops for p in profiles])
  N = np.array([p.params for p in profiles])
  return C, N, C / points.per_pair / N


def _lowest(points, sizes, losses, grid):
  """C, N and D of the envelope.

  Where two curves or more can be compared, and the lowest is neither of the
  smallest size nor of the largest: a better one may lie beyond those.
  """
  several = np.isfinite(losses).sum(0) > 1
  C, N = grid[several], sizes[np.argmin(losses[:, several], 0)]
  inside = (sizes.min() < N) & (sizes.max() > N)
  C, N = C[inside], N[inside]
  return C, N, C / points.per_pair / N


def _lines(flops, params, tokens):
  fitted = [np.polyfit(np.log(flops), np.log(x), 1) for x in (params, tokens)]
  return np.array(fitted)[:, ::-1]


def _curves(points):
  """The places of each curve's points."""
  names = points.runs
  if len(set(names)) == len(points):  # each point is a run of its own
    names = [f'{n:.3g}' for n in points.params]
  found = {}
  for place, name in enumerate(names):
    found.setdefault(name, []).append(place)
  return [np.array(w) for w in found.values() if len(w) > 1]


def _sizes(points, places):
  return len({f'{n:.3g}' for n in points.params[places]})
