"""What a run shows in the terminal: its parameters and how far it is."""

import contextlib
import itertools
import math
import shutil
import sys
import time
import unicodedata
from typing import Any, TextIO

import jax
from jax.tree_util import keystr, tree_leaves_with_path

# Peak bfloat16 FLOP/s of a jax device, dense, from the vendors' data sheets.
# The first that `device_kind` starts with counts.
PEAKS = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,  # v5e
  'TPU v5e': 197e12,
  'TPU v5': 459e12,  # v5p
  'TPU v6': 918e12,  # v6e
  'NVIDIA A100': 312e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H100 NVL': 835e12,
  'NVIDIA H100': 989.4e12,
  'NVIDIA H200': 989.4e12,
}


def peak_flops(device: jax.Device) -> float | None:
  """Peak bfloat16 FLOP/s of a device; None where it is not known."""
  for kind, peak in PEAKS.items():
    if device.device_kind.startswith(kind):
      return peak
  return None


def say(text: str, stream: TextIO | None = None, end: str = '\n') -> None:
  """Prints at once. A run goes on where nobody reads it any more."""
  with contextlib.suppress(OSError):
    print(text, end=end, file=stream or sys.stdout, flush=True)


def one_screen(text: str) -> str:
  """As much of a text as one screen shows, each line cut alike.

  What is cut ends in '...'; paragraphs, one an example, that find no room are
  counted. The whole text is TensorBoard's.
  """
  columns, rows = shutil.get_terminal_size()
  rows -= 3  # what comes before, the count, and the live line
  paragraphs = [x.split('\n') for x in text.strip('\n').split('\n\n')]
  shown, used = [], 0
  for lines in paragraphs:
    if shown and used + len(lines) + 1 > rows:
      break
    used += len(lines) + 1
    shown.append(lines)
  lines = sum(map(len, shown))
  most = max(1, (rows - len(shown) + 1) // max(1, lines)) * (columns - 1)
  found = '\n\n'.join('\n'.join(_cut(x, most) for x in y) for y in shown)
  left = len(paragraphs) - len(shown)
  return found + f'\n({left} more in TensorBoard)' * bool(left)


def _cut(line, columns):
  """The beginning of a line that takes so many columns of a terminal."""
  wide = [2 if unicodedata.east_asian_width(x) in 'WF' else 1 for x in line]
  if sum(wide) <= columns:
    return line
  ends = itertools.accumulate(wide)
  return line[: sum(end <= columns - 3 for end in ends)] + '...'


class Progress:
  """The line that tells how far a run is; live on a terminal.

  Args:
    steps: `train.steps`.
    start: steps made before this process began.
    active: False shows nothing, for all processes but one.
    stream: where lines go; by default standard output.

  Attributes:
    step_flops: floating-point operations of a step, all devices together; the
      model-FLOP utilisation (MFU) is theirs over the devices' bfloat16 peak. 0,
      or devices whose peak is not known: none is shown.
  """

  def __init__(
    self,
    steps: int,
    start: int = 0,
    active: bool = True,
    stream: TextIO | None = None,
  ):
    self._steps = steps
    self._start = self._last = start
    self.step_flops = 0.0
    self._peak = (peak_flops(jax.devices()[0]) or 0.0) * jax.device_count()
    self._active = active
    self._stream = stream or sys.stdout
    self._live = self._stream.isatty()
    self._shown = False
    self._trained = 0.0  # seconds
    self._rates = {}
    self.begin()

  def begin(self) -> None:
    """Starts the clock."""
    self._clock = time.perf_counter()

  def pause(self, seconds: float) -> None:
    """Takes seconds that just passed, in an evaluation, off the clock."""
    self._clock += seconds

  def update(self, step: int, loss: float, tokens: float) -> None:
    """Shows the line for `step`.

    Args:
      step: the number of updates made, more than at the last call.
      loss: since the last call, in nats per token.
      tokens: of a step, the mean since the last call.
    """
    now = time.perf_counter()
    seconds = max(now - self._clock, 1e-9)
    pace = (step - self._last) / seconds
    self._clock, self._last = now, step
    self._trained += seconds
    self._rates = {
      'train/steps_per_second': pace,
      'train/tokens_per_second': pace * tokens,
    }
    parts = [
      f'step {step:,}/{self._steps:,} ({step / self._steps:.0%})',
      f'loss {loss:.4f}',
      f'{pace * tokens:,.0f} tokens/s',
    ]
    if self.step_flops and self._peak:
      self._rates['train/mfu'] = pace * self.step_flops / self._peak
      parts.append(f'MFU {self._rates["train/mfu"]:.1%}')
    left = (self._steps - step) * self._trained / (step - self._start)
    parts.append(f'ETA {_duration(left)}')
    self._show('  '.join(parts))
    if step >= self._steps:
      self.close()

  def rates(self) -> dict[str, float]:
    """Means between the last two updates, for metrics.jsonl.

    train/steps_per_second, train/tokens_per_second, and train/mfu (a fraction)
    where it is known.
    """
    return dict(self._rates)

  def note(self, text: str) -> None:
    """Prints lines that stay, above the live one."""
    if self._active:
      clear = '\r\x1b[K' if self._shown else ''
      self._shown = False
      say(f'{clear}{text}', self._stream)

  def close(self) -> None:
    """Ends the live line."""
    if self._shown:
      self._shown = False
      say('', self._stream)

  def _show(self, line):
    if self._active and self._live:
      width = shutil.get_terminal_size().columns - 1  # no wrap, no smear
      say(f'\r\x1b[K{line[:width]}', self._stream, end='')
      self._shown = True
    elif self._active:
      say(line, self._stream)


def overview(params: Any, axes: Any, shardings: Any) -> str:
  """A table of the parameters, and their sizes.

  Args:
    params: a tree of arrays or of `jax.ShapeDtypeStruct`.
    axes: a tuple of logical axis names for each.
    shardings: a `NamedSharding` for each.

  Returns:
    Lines of path, shape, logical axes, mesh axes that cut each dimension (- for
    none), number of parameters and share of all; then the totals.
  """
  paths, leaves = zip(*tree_leaves_with_path(params), strict=True)
  tree = jax.tree.structure(params)
  total = sum(math.prod(x.shape) for x in leaves)
  rows = [('parameter', 'shape', 'axes', 'mesh', 'count', 'share')]
  whole = held = 0
  for path, leaf, names, sharding in zip(
    paths,
    leaves,
    tree.flatten_up_to(axes),
    tree.flatten_up_to(shardings),
    strict=True,
  ):
    count = math.prod(leaf.shape)
    whole += count * leaf.dtype.itemsize
    held += math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    rows.append(
      (
        keystr(path, simple=True, separator='/'),
        'x'.join(map(str, leaf.shape)),
        ' '.join(names),
        ' '.join(_mesh_axes(sharding.spec, len(leaf.shape))),
        f'{count:,}',
        f'{count / total:.2%}',
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for *words, count, share in rows:
    cells = [x.ljust(w) for x, w in zip(words, widths[:4], strict=True)]
    cells += [count.rjust(widths[4]), share.rjust(widths[5])]
    lines.append('  '.join(cells))
  lines.append(
    f'{total:,} parameters in {len(leaves)} arrays, {_bytes(whole)}; '
    f'{_bytes(held)} on each device'
  )
  return '\n'.join(lines)


def _mesh_axes(spec, dims):
  for entry in (*spec, *[None] * (dims - len(spec))):
    yield '+'.join(entry) if isinstance(entry, tuple) else entry or '-'


def _bytes(count):
  for unit in ('B', 'kB', 'MB', 'GB'):
    if count < 1000:
      return f'{count:.4g} {unit}'
    count /= 1000
  return f'{count:.4g} TB'


def _duration(seconds):
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  days, hours = divmod(hours, 24)
  if days:
    return f'{days}d{hours:02}h'
  if hours:
    return f'{hours}h{minutes:02}m'
  return f'{minutes}m{seconds:02}s'
