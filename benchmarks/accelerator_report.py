"""What benchmarks/accelerator.py says of its rows: lines, a table, doubts.

A row's name has words: a model, a side, and how it runs.
"""

import math

from benchmarks import accelerator_models
from train.reporting.flops import PEAKS


def rated(model, tiny, row, peak=0.0):
  """The row of a model with tokens a second and MFU.

  `peak` is the chip's, FLOP/s of bfloat16; 0: that of train/reporting/flops.py.
  """
  if 'ms' not in row:
    return row
  config = accelerator_models.make_config(model, tiny)
  tokens = config.data.batch * config.data.length  # of T5 the encoder's
  row['tokens_per_second'] = 1e3 * tokens / row['ms']
  row['flops'] = accelerator_models.flops(config)
  known = (n for n in PEAKS if row['device'].startswith(n))
  row['peak_flops'] = peak or PEAKS.get(next(known, ''))
  if row['peak_flops']:
    row['mfu'] = row['flops'] / row['ms'] * 1e3 / row['peak_flops']
  return row


def line(name, row):
  """A row in one line of text."""
  if 'error' in row:
    return f'{name:38} failed: {row["error"]}'
  parts = [f'{name:38}']
  if 'ms' in row:
    parts.append(f'{row["ms"]:8.1f} ms')
  parts.append(f'{row["tokens_per_second"]:10,.0f} tokens/s')
  if 'mfu' in row:
    parts.append(f'MFU {row["mfu"]:.1%}')
  if 'peak_gib' in row:
    parts.append(f'peak {row["peak_gib"]:.1f} GiB')
  if 'loop_over_bare_step' in row:
    parts.append(f'{row["loop_over_bare_step"]:.3f} of the bare step')
  if 'first_loss' in row:
    parts.append(f'loss {row["first_loss"]:.4f}')
  if 'attention' in row:
    parts.append(row['attention'].partition(':')[0])
  return '  '.join(parts)


def cell(rows, *wanted):
  """The fastest of the rows whose name has these words, as the table has it.

  Packed rows are left out: they attend to less.
  """
  found = {
    name: row
    for name, row in rows.items()
    if 'ms' in row and {*wanted} <= {*name.split()}
    if 'packed' not in name.split()
  }
  if not found:
    return '-', math.inf
  name = min(found, key=lambda n: found[n]['ms'])
  row = found[name]
  text = f'{row["ms"]:.0f} ms'
  if 'mfu' in row:
    text += f', {row["mfu"]:.1%}'
  text += f', {row["peak_gib"]:.1f} GiB'
  how = ' '.join(name.split()[3:])
  return text + (f' ({how})' if how else ''), row['ms']


def table(rows):
  """The table of each model beside torch, in Markdown."""
  heads = 'model', 'Treeline, xla', 'Treeline, flash', 'torch, sdpa'
  heads += 'torch.compile', 'better torch over Treeline'
  lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
  for model in accelerator_models.ROWS:
    sides = ('xla',), ('flash',), ('sdpa',), ('compiled',)
    cells = [cell(rows, model, *words) for words in sides]
    ours, theirs = (
      min(ms for _, ms in part) for part in (cells[:2], cells[2:])
    )
    ratio = f'{theirs / ours:.2f}' if theirs < math.inf > ours else '-'
    if min(ours, theirs) < math.inf:
      texts = [text for text, _ in cells]
      lines.append(f'| {" | ".join([model, *texts, ratio])} |')
  return '\n'.join(lines)


def disagreeing(rows):
  """Models whose variants of Treeline begin with other losses, in words.

  The first loss is that of the initial weights, the same in all of them.
  """
  found = []
  for model in dict.fromkeys(name.split()[0] for name in rows):
    losses = {
      name: row['first_loss']
      for name, row in rows.items()
      if name.startswith(f'{model} treeline') and 'first_loss' in row
      if 'packed' not in name
    }
    first = next(iter(losses.values()), 0.0)
    # Not a number is near to nothing.
    near = [abs(x - first) < 0.01 * abs(first) for x in losses.values()]
    if not all(near):
      found.append(f'The first losses of {model} differ: {losses}.')
  return found
