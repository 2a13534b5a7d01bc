"""The kernels of a step that take longest, from a profile by JAX or torch."""

import collections
import os
import tempfile

STEPS = 3
TOP = 10
# These hold operations which have events of their own.
ENCLOSING = ('while', 'call', 'conditional')


def of_jax(step, wait):
  """Profiles a few steps -> the largest kernels, see `largest`.

  `step` starts one step, `wait` waits for the last one.
  """
  import jax

  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(STEPS):
        step()
      wait()
    paths = [
      os.path.join(place, name)
      for place, _, names in os.walk(folder)
      for name in names
      if name.endswith('.xplane.pb')
    ]
    data = jax.profiler.ProfileData.from_file(paths[0])
  return largest(seconds(data))


def of_torch(step, wait):
  """As `of_jax`, by torch's profiler; on a CPU of operators."""
  from torch import profiler

  with profiler.profile() as found:
    for _ in range(STEPS):
      step()
    wait()
  spent = collections.Counter()
  for event in found.key_averages():
    # Microseconds; an operator's own kernels are events of their own.
    on_device = getattr(event, 'self_device_time_total', 0)
    if on_device and not event.key.startswith(('aten::', 'autograd::')):
      spent[event.key] += 1e-6 * on_device
  if not spent:
    for event in found.key_averages():
      spent[event.key] += 1e-6 * event.self_cpu_time_total
  return largest(spent)


def seconds(data):
  """Seconds of each kernel of a `jax.profiler.ProfileData`.

  A GPU's kernels stand in lines called 'Stream', a TPU's operations in the line
  'XLA Ops'; a CPU's operations have the statistic 'hlo_op'.
  """
  spent = collections.Counter()
  planes = [p for p in data.planes if p.name.startswith('/device:')]
  for plane in planes:
    for line in plane.lines:
      if line.name.startswith('Stream') or line.name == 'XLA Ops':
        for event in line.events:
          spent[event.name] += 1e-9 * event.duration_ns
  if not spent:
    for plane in data.planes:
      for line in plane.lines:
        for event in line.events:
          name = dict(event.stats).get('hlo_op', '')
          if name and not name.startswith(ENCLOSING):
            spent[name] += 1e-9 * event.duration_ns
  return spent


def largest(spent):
  """The TOP of a counter of seconds: [ms of a step, share of all, name]."""
  total = sum(spent.values())
  return [
    [1e3 * s / STEPS, s / total, name] for name, s in spent.most_common(TOP)
  ]
