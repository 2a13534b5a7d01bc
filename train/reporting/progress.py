"""What a run shows in the terminal: parameters, progress, samples."""

import itertools
import math
import shutil
import time
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import jax
from jax.sharding import PartitionSpec
from jax.tree_util import keystr, tree_leaves_with_path

from configs.commands import terminal
from train.learning.state import count_params
from train.reporting.flops import peak_flops

WAITING = 0.05  # the least share of waiting for batches that is shown
CUT = 'cut'  # a task's count of examples that lost tokens: 'TASK/cut'


def described(
  means: Mapping[str, float], others: Mapping[str, float] | None = None
) -> str:
  """An evaluation in one line: the loss, and what else is known of its kind.

  Of `others`, the numbers of eval.sources, it has the losses.

  >>> described({'loss': 0.5, 'accuracy': 0.75, 'labels': 8, 'a/f1': 50.0})
  'loss 0.5000, accuracy 0.7500 on 8 labels, a/f1 50.00'
  >>> described({'loss': 0.5, 'labels': 8, 'a/f1': 50.0, 'a/cut': 2})
  'loss 0.5000 on 8 labels, a/f1 50.00, 2 examples of a lost tokens'
  >>> described({'loss': 0.5, 'tokens': 8}, {'wiki/loss': 1, 'wiki/tokens': 9})
  'loss 0.5000 on 8 tokens, wiki/loss 1.0000'
  """
  found = [f'loss {means["loss"]:.4f}']
  if 'perplexity' in means:
    found.append(f'perplexity {means["perplexity"]:.4g}')
  if 'accuracy' in means:
    found.append(f'accuracy {means["accuracy"]:.4f}')
  unit = 'tokens' if 'tokens' in means else 'labels'
  found[-1] += f' on {means[unit]:,} {unit}'
  for key, x in means.items():
    task, slash, name = key.rpartition('/')
    if slash and name == CUT:
      found.append(f'{x:.0f} examples of {task} lost tokens')
    elif slash:
      found.append(f'{key} {x:.2f}')
  for key, x in (others or {}).items():
    if key.endswith('/loss'):
      found.append(f'{key} {x:.4f}')
  return ', '.join(found)


def one_screen(text: str) -> str:
  """As much of some examples as one screen shows, one a paragraph.

  Long lines are cut to one length and end in '...'. The examples without room
  are counted; TensorBoard has the whole text.
  """
  columns, rows = shutil.get_terminal_size()
  rows -= 3  # for the line before, the count, and the live line
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


def _cut(line: str, columns: int) -> str:
  """A line cut to so many columns of a terminal."""
  wide = [2 if unicodedata.east_asian_width(x) in 'WF' else 1 for x in line]
  if sum(wide) <= columns:
    return line
  ends = itertools.accumulate(wide)
  return line[: sum(end <= columns - 3 for end in ends)] + '...'


class Progress(terminal.LiveLine):
  """A run's line of progress: step, loss, tokens/s, MFU, time left.

  MFU is the model-FLOP utilisation: the step's operations per second, over the
  bfloat16 peak of all devices. It is left out if either is not known.

  Args:
    steps: `train.steps`.
    start: steps made before this process began.
    active: False shows nothing, for all processes but one.
    stream: where lines go; None: standard output.
  """

  def __init__(
    self,
    steps: int,
    start: int = 0,
    active: bool = True,
    stream: TextIO | None = None,
  ):
    super().__init__(active, stream)
    self._steps = steps
    self._start = self._last = start
    self.step_flops = 0.0  # of all devices together; 0: not known
    self._peak = (peak_flops(jax.devices()[0]) or 0.0) * jax.device_count()
    self._trained = 0.0  # seconds
    self.rates = {}  # means between the last two updates, for metrics.jsonl
    self.begin()

  def begin(self) -> None:
    """Starts the clock."""
    self._clock = time.perf_counter()

  def go_back(self, step: int) -> None:
    """Goes on from an earlier step."""
    self._start = self._last = step
    self._trained = 0.0
    self.begin()

  def pause(self, seconds: float) -> None:
    """Leaves out the last so many seconds, as of an evaluation."""
    self._clock += seconds

  def update(
    self, step: int, loss: float, tokens: float, waited: float = 0.0
  ) -> None:
    """Shows the line for `step`, the number of updates made.

    The loss, in nats per token, and the tokens per step are means since the
    last call. `waited` are the seconds since then that went into waiting for
    batches; a share that is worth it is shown.
    """
    now = time.perf_counter()
    seconds = max(now - self._clock, 1e-9)
    pace = (step - self._last) / seconds
    self._clock, self._last = now, step
    self._trained += seconds
    self.rates = {
      'train/steps_per_second': pace,
      'train/tokens_per_second': pace * tokens,
    }
    parts = [
      f'step {step:,}/{self._steps:,} ({step / self._steps:.0%})',
      f'loss {loss:.4f}',
      f'{pace * tokens:,.0f} tokens/s',
    ]
    if self.step_flops and self._peak:
      self.rates['train/mfu'] = pace * self.step_flops / self._peak
      parts.append(f'MFU {self.rates["train/mfu"]:.1%}')
    if waited / seconds >= WAITING:
      parts.append(f'input {waited / seconds:.0%}')
    left = (self._steps - step) * self._trained / (step - self._start)
    parts.append(f'ETA {terminal.duration(left)}')
    self.show('  '.join(parts))
    if step >= self._steps:
      self.close()


def overview(params: Any, axes: Any, shardings: Any) -> str:
  """A table of the parameters and their sizes.

  Args:
    params: a tree of arrays or of `jax.ShapeDtypeStruct`.
    axes: a tuple of logical axis names for each.
    shardings: a `NamedSharding` for each.

  Returns:
    A line for each: path, shape, logical axes, the mesh axes that cut each
    dimension (- for none), number of parameters, share of all; then the totals.
  """
  leaves = tree_leaves_with_path(params)
  tree = jax.tree.structure(params)
  total = count_params(params)
  rows = [('parameter', 'shape', 'axes', 'mesh', 'count', 'share')]
  whole = held = 0
  for (path, leaf), names, sharding in zip(
    leaves, tree.flatten_up_to(axes), tree.flatten_up_to(shardings), strict=True
  ):
    whole += leaf.size * leaf.dtype.itemsize
    held += math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    row = (
      keystr(path, simple=True, separator='/'),
      'x'.join(map(str, leaf.shape)),
      ' '.join(names),
      ' '.join(_mesh_axes(sharding.spec, leaf.ndim)),
      f'{leaf.size:,}',
      f'{leaf.size / total:.2%}',
    )
    rows.append(row)
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  pads = *[str.ljust] * 4, str.rjust, str.rjust
  lines = [
    '  '.join(pad(x, w) for pad, x, w in zip(pads, row, widths, strict=True))
    for row in rows
  ]
  lines.append(
    f'{total:,} parameters in {len(leaves)} arrays, {_bytes(whole)}; '
    f'{_bytes(held)} on each device'
  )
  return '\n'.join(lines)


def _mesh_axes(spec: PartitionSpec, dims: int) -> Iterator[str]:
  for entry in (*spec, *[None] * (dims - len(spec))):
    yield '+'.join(entry) if isinstance(entry, tuple) else entry or '-'


def _bytes(count: float) -> str:
  for unit in ('B', 'kB', 'MB', 'GB'):
    if count < 1000:
      return f'{count:.4g} {unit}'
    count /= 1000
  return f'{count:.4g} TB'
