"""Floating-point operations of the products in a program's text."""

import math
import re

from train.fitting import hlo


def flops(program: hlo.Program, lines: dict[str, hlo.Line], line: hlo.Line):
  """Of one run of a line: its product, those that it fuses, or its kernel's.

  A kernel is counted by its own estimate. Nothing else counts: additions and
  exponentials are few beside products.
  """
  if line.code == 'fusion':
    inside = program.computations.get(line.called('calls'), {})
    return sum(flops(program, inside, x) for x in inside.values())
  if line.code == 'dot':
    return _dot(lines, line)
  if line.code == 'convolution':
    return _convolution(lines, line)
  if line.code == 'custom-call':
    return line.number('flops') or _library(lines, line)
  return 0


def _shape(lines, name):
  return hlo.arrays(lines[name].type)[0][2]


def _numbers(line, key):
  found = re.search(rf'\b{key}=\{{([\d,]*)\}}', line.rest)
  return [int(x) for x in found[1].split(',') if x] if found else []


def _dot(lines, line):
  """Twice the result's size times the sizes that are summed over."""
  left = _shape(lines, line.operands[0])
  summed = [left[n] for n in _numbers(line, 'lhs_contracting_dims')]
  return 2 * math.prod(hlo.arrays(line.type)[0][2]) * math.prod(summed)


def _library(lines, line):
  """A product that a GPU's library computes (cuBLAS)."""
  if not re.search(r'custom_call_target="__cublas', line.rest):
    return 0
  found = re.search(
    r'"lhs_contracting_dimensions":\[([^\]]*)\]', line.rest.replace(' ', '')
  )
  if not found:
    return 0
  left = _shape(lines, line.operands[0])
  summed = [left[int(n)] for n in re.findall(r'\d+', found[1])]
  return 2 * math.prod(hlo.arrays(line.type)[0][2]) * math.prod(summed)


def _convolution(lines, line):
  """As XLA counts it: only pairs of an input and a kernel place that meet.

  TPU's compiler writes every product as a convolution, with a product's batch
  as a dimension of the window, where most places are padding.
  """
  found = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', line.rest)
  left, kernel, out = found.groups()
  places = _shape(lines, line.operands[0])
  weights = _shape(lines, line.operands[1])
  result = hlo.arrays(line.type)[0][2]
  window = re.search(r'window=\{([^}]*)\}', line.rest)
  window = dict(x.split('=') for x in window[1].split()) if window else {}
  spatial = [x for x in kernel if x.isdigit()]

  def option(name, axis, default):
    parts = window.get(name, '').split('x')
    return parts[axis] if len(parts) > axis and parts[axis] else default

  meetings = 1
  for digit in spatial:
    axis = int(digit)
    low = int(option('pad', axis, '0_0').split('_')[0])
    meetings *= _meetings(
      places[left.index(digit)],
      weights[kernel.index(digit)],
      result[out.index(digit)],
      int(option('stride', axis, 1)),
      low,
      int(option('lhs_dilate', axis, 1)),
      int(option('rhs_dilate', axis, 1)),
    )
  groups = re.search(r'batch_group_count=(\d+)', line.rest)
  groups = int(groups[1]) if groups else 1
  summed = weights[kernel.index('i')]  # is of one feature group
  rows = places[left.index('b')] // groups
  return 2 * rows * result[out.index('f')] * summed * meetings


def _meetings(places, width, results, stride, low, dilate, spread):
  """Pairs of a result and a kernel place that read an input, not padding."""
  count = 0
  last = (places - 1) * dilate
  for k in range(width):
    # o * stride + k * spread - low lies in [0, last] and is a multiple of
    # dilate.
    start = k * spread - low
    first = max(0, -(start // stride)) if start < 0 else 0
    end = min(results - 1, (last - start) // stride)
    if end < first:
      continue
    if dilate == 1:
      count += end - first + 1
    else:
      count += sum(
        (o * stride + start) % dilate == 0 for o in range(first, end + 1)
      )
  return count
