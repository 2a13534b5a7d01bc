"""The runs that a law is fitted to, read from a table (CSV)."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from input_pipeline.sources import paths

# What a point may have -> the names that a column of it may have, in lower
# case, without what is in brackets.
COLUMNS = {
  'params': ('params', 'n', 'parameters', 'model size', 'n_params', 'size'),
  'tokens': ('tokens', 'd', 'training tokens', 'n_tokens', 'train tokens'),
  'flops': ('flops', 'c', 'flop', 'training flop', 'training flops', 'compute'),
  'loss': ('loss', 'l', 'eval/loss', 'final loss', 'eval loss'),
  'steps': ('steps', 's', 's_min'),
  'unique': ('unique', 'unique tokens', 'u_d', 'unique_tokens'),
  'epochs': ('epochs',),
  'run': ('run', 'name', 'workdir'),
}
UNITS = {
  'k': 1e3, 'thousand': 1e3, 'm': 1e6, 'million': 1e6, 'b': 1e9,
  'billion': 1e9, 't': 1e12, 'trillion': 1e12, 'pf-days': 8.64e19,
  'tflop': 1e12, 'pflop': 1e15, 'eflop': 1e18, 'zflop': 1e21,
}  # fmt: skip
LOSS_UNITS = {'nats': 1.0, 'bits': math.log(2)}  # perhaps 'per token'
LEAST = {'params': 1e3, 'tokens': 1e4}  # medians below are of another unit
PER_PAIR = 6.0  # FLOPs of a parameter and a token: C = 6 N D


@dataclasses.dataclass(frozen=True)
class Points:
  """Runs, one an entry of each array.

  Attributes:
    source: the file or folder.
    params: N.
    tokens: D.
    flops: C.
    loss: nats per token.
    others: further columns: steps, unique (tokens of the text that is read).
    runs: of each point the run that it belongs to; a run with several points
      is a curve.
    notes: what was assumed.
  """

  source: str
  params: np.ndarray
  tokens: np.ndarray
  flops: np.ndarray
  loss: np.ndarray
  others: Mapping[str, np.ndarray]
  runs: tuple[str, ...]
  notes: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.loss)

  @property
  def per_pair(self) -> float:
    """FLOPs of a parameter and a token: the median of C / (N D)."""
    return float(np.median(self.flops / self.params / self.tokens))

  def column(self, name: str) -> np.ndarray:
    """The values of params, tokens, flops, loss or one of the others.

    Raises ValueError if the table has none.
    """
    if name in ('params', 'tokens', 'flops', 'loss'):
      return getattr(self, name)
    if name not in self.others:
      raise ValueError(
        f'{self.source} has no column {name!r}, which this law reads. It may '
        f'be called {", ".join(COLUMNS[name])}.'
      )
    return self.others[name]

  def take(self, keep: np.ndarray, note: str = '') -> 'Points':
    """The points with these places."""
    return dataclasses.replace(
      self,
      **{k: getattr(self, k)[keep] for k in ('params', 'tokens')},
      **{k: getattr(self, k)[keep] for k in ('flops', 'loss')},
      others={k: x[keep] for k, x in self.others.items()},
      runs=tuple(self.runs[int(i)] for i in keep),
      notes=self.notes + (note,) * bool(note),
    )

  def without_highest(self, count: int) -> 'Points':
    """Without the points of highest loss, in the order they had."""
    if not count:
      return self
    keep = np.sort(np.argsort(self.loss, kind='stable')[: len(self) - count])
    return self.take(keep, f'The {count} points of highest loss are left out.')


def read_csv(
  path: str,
  columns: Mapping[str, str] | None = None,
  units: Mapping[str, float] | None = None,
) -> Points:
  """Reads a table with a header: N, loss, and D or C or both.

  Where one of N, D and C is missing, C = 6 N D gives it. A unit in the header,
  as in 'params (M)', is read, and noted.

  Args:
    path: of the CSV file.
    columns: which column is params, tokens, ...; others are found by name.
    units: of params, tokens, ...: how many ones the table's unit is.

  Raises:
    ValueError: a column is missing, a cell is no positive number, or units
      contradict C = 6 N D.
    OSError: the file cannot be read.
  """
  try:
    text = paths.read(path).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is no CSV: it is not UTF-8 text.') from error
  table = csv.reader(io.StringIO(text))
  header = [cell.strip() for cell in next(table, [])]
  rows = [(table.line_num, row) for row in table if any(map(str.strip, row))]
  found, scales, notes = _places(path, header, columns or {})
  for name, scale in (units or {}).items():
    if name not in found:
      raise ValueError(f'--units={name}=...: {path} has no column of {name}.')
    scales[name] = scale
  if 'loss' not in found or len(found.keys() & {*_SIZES}) < 2:
    raise ValueError(
      f'{path} needs a column loss and two of params, tokens and flops. Its '
      f'columns are {", ".join(header) or "none"}. Name them with '
      "--columns='params=NAME,tokens=NAME,loss=NAME'."
    )
  values = {
    name: np.array([_number(path, name, x, place) * scales.get(name, 1.0)
                    for x in rows])
    for name, place in found.items() if name != 'run'
  }  # fmt: skip
  runs = [
    row[found['run']].strip() if 'run' in found else f'row {n}'
    for n, (_, row) in enumerate(rows, 1)
  ]
  return make(path, values, runs, notes)


_SIZES = 'params', 'tokens', 'flops'
_USUAL = {'params': '1e6', 'tokens': '1e9', 'flops': '8.64e19'}  # PF-days


def make(
  source: str,
  values: Mapping[str, np.ndarray],
  runs: Sequence[str],
  notes: Sequence[str] = (),
) -> Points:
  """Points of their columns; completes N, D and C, and checks them.

  Raises:
    ValueError: there is none, or C is far from 6 N D.
  """
  values, notes = dict(values), list(notes)
  if not len(values['loss']):
    raise ValueError(f'{source} has no runs.')
  given = [name for name in _SIZES if name in values]
  N, D, C = (values.pop(name, None) for name in _SIZES)
  if C is None:
    C = PER_PAIR * N * D
    notes.append('FLOPs are 6 N D.')
  elif D is None:
    D = C / PER_PAIR / N
    notes.append('Tokens are C / (6 N).')
  elif N is None:
    N = C / PER_PAIR / D
    notes.append('Parameters are C / (6 D).')
  ratio = C / (N * D)
  if np.median(ratio) > 60 or np.median(ratio) < 0.6:
    raise ValueError(
      f'{source}: FLOPs are {np.median(ratio):.3g} times parameters times '
      'tokens, where about 6 is usual: the units of a column differ from '
      'ones. Give --units, such as --units=params=1e6,tokens=1e9.'
    )
  if np.ptp(ratio) > 0.02 * np.median(ratio) or abs(ratio[0] - 6) > 0.06:
    notes.append(
      f'FLOPs are {ratio.min():.2f} to {ratio.max():.2f} N D: optima take '
      f'their median, {np.median(ratio):.2f} N D.'
    )
  if max(values['loss']) > 25:
    raise ValueError(
      f'{source}: a loss of {max(values["loss"]):.4g} is no loss in nats per '
      'token. A perplexity must be turned into its logarithm.'
    )
  for name, own in (('params', N), ('tokens', D)):
    if np.median(own) < LEAST[name]:
      units = ', '.join(f'{x}={_USUAL[x]}' for x in given)
      raise ValueError(
        f'{source}: the median run has {np.median(own):.4g} {name}: the unit '
        f'of a column differs from ones. Give --units, such as {units}.'
      )
  epochs = values.pop('epochs', None)
  if epochs is not None and 'unique' not in values:
    values['unique'] = D / epochs
  loss = values.pop('loss')
  return Points(source, N, D, C, loss, values, tuple(runs), tuple(notes))


def _places(path, header, named):
  """Of each column its place, and its unit; and notes on units."""
  found, scales, notes = {}, {}, []
  for name, column in named.items():
    if name not in COLUMNS:
      raise ValueError(f'--columns={name}=...: there are {", ".join(COLUMNS)}.')
    if column not in header:
      raise ValueError(
        f'--columns={name}={column}: the columns of {path} are '
        f'{", ".join(header)}.'
      )
    found[name] = header.index(column)
  for place, cell in enumerate(header):
    bare, _, unit = cell.lower().partition('(')
    unit = unit.rstrip(') ').strip()
    for name, known in COLUMNS.items():
      spelled = re.sub(r'[\s_]+', ' ', bare).strip()
      if spelled in (x.replace('_', ' ') for x in known):
        if name in named:
          break
        if name in found:
          raise ValueError(
            f'{path} has two columns of {name}, {header[found[name]]!r} and '
            f'{cell!r}. Choose one: --columns={name}=NAME.'
          )
        found[name] = place
    if unit and place in found.values():
      name = next(k for k, x in found.items() if x == place)
      units = UNITS
      if name == 'loss':
        units, unit = LOSS_UNITS, unit.removesuffix(' per token')
      if unit not in units:
        raise ValueError(
          f'{path}: the unit of {cell!r} is unknown; there are '
          f'{", ".join(units)}. Or give --units={name}=NUMBER.'
        )
      scales[name] = units[unit]
      notes.append(f'{cell!r} is read in units of {scales[name]:g}.')
  return found, scales, notes


def _number(path, name, row, place):
  """A cell's positive number."""
  line, cells = row
  cell = cells[place].strip() if place < len(cells) else ''
  try:
    value = float(cell)
  except ValueError:
    value = float('nan')
  if not 0 < value < float('inf'):
    raise ValueError(
      f'{path}, line {line}: {name} is {cell!r}; it must be a positive number.'
    )
  return value
