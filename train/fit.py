"""`python -m train.fit --config=FILE.py[:ARG] --topology=v5p:4x4x4`.

Compiles a config's training step for a TPU slice that is not here, with the TPU
compiler on any machine (the extra `aot`), and reports before anything is paid
for: whether it fits, a device's memory by category and its largest buffers;
executed FLOPs; collectives; where the time goes; the step's time and MFU. The
status is 1 if the step does not fit and --search finds nothing that does.

A slice is a chip and a shape (v5e:16x16) or the cloud's type (v5litepod-256,
v4-256). Without --topology it is that of the config (docs/pods.md); if it names
none, or with --topology=here, it is the devices here. For GPUs (h100:8,
h100:4x8) nothing is compiled: the state and a bound of the time.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import json
import os
import sys
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import terminal
from input_pipeline import pipeline
from input_pipeline.sources import paths
from train.fitting import measure, meshes, report, resolving, variants
from train.fitting.chips import Chip, chip_of, listed, resolve, slice_of
from train.runs import command
from train.setup import Setup, set_up


def prepared(
  config: ConfigDict, devices: list
) -> tuple[Setup, dict[str, jax.ShapeDtypeStruct]]:
  """The setup, and the batch's shapes.

  Raises ValueError for a setting that cannot work on so many devices.
  """
  setup = set_up(config, devices)
  shapes = pipeline.batch_shapes(setup.data, config.model.family)
  return setup, setup.batch(shapes)


def compiled_step(
  config: ConfigDict, devices: list
) -> tuple[Setup, dict[str, jax.ShapeDtypeStruct], jax.stages.Compiled, float]:
  """The setup, the batch's shapes, the training step, and seconds to compile.

  Raises ValueError as `prepared` does, and DoesNotFitError.
  """
  setup, batch = prepared(config, devices)
  clock = time.perf_counter()
  compiled = setup.compile_step(batch)
  return setup, batch, compiled, time.perf_counter() - clock


def fit(
  config: ConfigDict, devices: list, chip: Chip | None = None
) -> dict[str, Any]:
  """Compiles the training step for `devices`, which may be a topology's.

  `chip` is what they are; None: what their `device_kind` says. Returns what
  `measure.measure` does.

  Raises:
    ValueError: a setting that cannot work on so many devices.
    measure.NeedsMoreError: the step needs more memory than a device has. The
      message says how much, for what, and what the config can still do.
  """
  setup, batch = prepared(config, devices)
  chip = chip or chip_of(devices[0].device_kind)
  try:
    return measure.measure(setup, batch, chip)
  except measure.NeedsMoreError as error:
    message = _needs_more(setup, error.found)
    raise measure.NeedsMoreError(message, error.found) from error


def _needs_more(setup, found):
  """What a user must know of a step that does not fit."""
  largest = '; '.join(
    f'{report.gib(x["bytes"])} {x["category"]} {x["type"]} ({x["name"]})'
    for x in found['largest'][:3]
  )
  todo = ', '.join(variants.remedies(setup, found))
  return (
    f'{report.verdict(found)} '
    + (f'Largest: {largest}. ' if largest else '')
    + (f'Not tried yet: {todo}; ' if todo else '')
    + 'or a smaller data.batch, or more devices. --search finds what fits.'
  )


def topology(name: str, slices: int = 1) -> list:
  """Descriptions of the devices of TPU slices such as 'v5p:4x4x4'.

  Raises ValueError if there is no TPU compiler here, or no such slice.
  """
  chip, shape, _ = resolve(name)
  if chip.node:
    raise ValueError(f'--topology={name} is of GPUs: there is no compiler.')
  # Without these the compiler asks the cloud's metadata server, and waits.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5p-128')  # any will do
  # Nothing is opened but the compiler: several programs may use it at once.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  from jax.experimental import topologies

  options = {}
  if chip.name == 'v4':  # two cores make one device
    options['chip_config_name'] = 'megacore'
  if shape in ('1x1', '1x1x1'):
    options['chips_per_host_bounds'] = (1, 1, 1)
  if slices > 1:
    options['num_slices'] = slices
  try:
    described = topologies.get_topology_desc(
      platform='tpu', topology_name=f'{chip.name}:{shape}', **options
    )
  except Exception as error:
    reason = str(error).splitlines()[0]
    if 'not divisible' in reason:
      raise ValueError(
        f'--topology={name} does not exist: there are {listed(chip.name)}.'
      ) from error
    raise ValueError(
      f'--topology={name} cannot be described: {reason}. It needs libtpu (pip '
      "install 'treeline-lm[aot]'); --topology=here means the devices here."
    ) from error
  return list(np.ravel(described.devices))


def _devices(name, slices):
  """The devices, their chip, and how their slice is called."""
  if not name:
    devices = jax.devices()
    return devices, chip_of(devices[0].device_kind), devices[0].device_kind
  chip, shape, count = resolve(name)
  if not chip.node:
    return topology(name, slices), chip, f'{chip.name}:{shape}'
  # Stand-ins: meshes and shapes are all that is made of them.
  jax.config.update('jax_num_cpu_devices', count * slices)
  return jax.devices('cpu')[: count * slices], chip, name


def _measured(config, devices, chip, bound=False):
  """What `fit` finds, or `measure.bounds`; and the error if it does not fit."""
  if bound:
    found = measure.bounds(*prepared(config, devices), chip)
    if found['fits'] is None:
      return found, None
    message = (
      f'{report.verdict(found)} That is the state and the gradients alone: '
      'take more devices, or a --mesh that cuts them into more parts.'
    )
    return found, measure.NeedsMoreError(message, found)
  try:
    return fit(config, devices, chip), None
  except measure.NeedsMoreError as error:
    return error.found, error


def _search(config, devices, chip, slices, most, found):
  """Compiles variants of a config that does not fit.

  Returns the one that does and what it takes, or None and {}.
  """
  setup, _ = prepared(config, devices)
  options = variants.candidates(setup, found, slices)
  results = {}

  def attempt(variant, number, estimate):
    _note(
      f'Search {number}/{most}: {variant.words()} (estimate '
      f'{report.gib(estimate)}) ...'
    )
    try:
      result, _ = _measured(variant.apply(config), devices, chip)
    except ValueError as refused:
      _note(f'  refused: {refused}')
      return None
    _note(f'  {report.verdict(result)}')
    results[id(variant)] = result
    return result['peak']

  chosen = variants.search(options, found['limit'], most, attempt)
  return chosen, results.get(id(chosen), {})


def _sweep(config, devices, chip, options, bound):
  """(mesh, what it takes or why it cannot be) of each mesh."""
  rows = []
  for number, sizes in enumerate(options, 1):
    name, changed = meshes.words(sizes), meshes.changed(config, sizes)
    _note(f'Sweep {number}/{len(options)}: {name} ...')
    try:
      rows.append((name, _measured(changed, devices, chip, bound)[0]))
    except ValueError as refused:
      rows.append((name, f'refused: {refused}'))
  return rows


def _note(line):
  """Progress, apart from the results on standard output."""
  terminal.say(line, sys.stderr)


def _check_flags(bound):
  """Raises ValueError for flags that would be ignored, or fail at the end."""
  if _SWEEP.value and (_SEARCH.value or _PLOT.value or _MESH.value):
    raise ValueError(
      '--sweep prints a table of meshes: give it without --search, --plot and '
      '--mesh.'
    )
  if _SEARCH.value < 0:
    raise ValueError(f'--search={_SEARCH.value} must be 1 or more.')
  if _SEARCH.value and bound:
    raise ValueError(
      f'--search compiles variants, and there is no compiler for --topology='
      f'{_TOPOLOGY.value}: compare meshes with --sweep.'
    )
  if _PLOT.value and not _PLOT.value.endswith('.png'):
    raise ValueError(f'--plot={_PLOT.value} must end in .png.')
  folder = os.path.dirname(_PLOT.value)
  if folder and not paths.is_remote(folder) and not paths.is_folder(folder):
    raise ValueError(f'--plot={_PLOT.value}: there is no folder {folder}.')


def main():
  own = resolving.resolve(_CONFIG.value, _note)
  config = own.copy_and_resolve_references()
  name, slices = slice_of(config, _TOPOLOGY.value, _SLICES.value or 0)
  devices, chip, called = _devices(name, slices)
  bound = bool(name and chip.node)  # no compiler
  _check_flags(bound)
  where = f'{slices} x {called}' if slices > 1 else called
  count = len(devices)
  if slices > 1:
    config.sharding.slices = slices
  if _MESH.value:
    meshes.apply(config, meshes.parse(_MESH.value, count, where))
  if _SWEEP.value:
    options = meshes.usual(count, config.model.heads or 0, slices)
    if _SWEEP.value != 'true':
      wanted = _SWEEP.value.split('/')
      options = [meshes.parse(x, count, where) for x in wanted]
    rows = _sweep(config, devices, chip, options, bound)
    text = json.dumps([{'mesh': mesh, 'found': x} for mesh, x in rows])
    terminal.say(text if _JSON.value else report.table(rows))
    return
  title = f'{_name()} on {where}, {count} device{"s" if count > 1 else ""}'
  extra = {'topology': called if name else '', 'slices': slices}
  found, failed = _measured(config, devices, chip, bound)
  page = report.page(title, found)
  if failed and _SEARCH.value:
    _note(report.verdict(found))
    chosen, better = _search(
      config, devices, chip, slices, _SEARCH.value, found
    )
    if chosen:
      found, failed = better, None
      extra['flags'] = meshes.flags(own, chosen.apply(config))
      title += f', with {chosen.words()}'
      page += f'\n\n{report.page(title, found)}'
      place = ', in place of --mesh' if _MESH.value else ''
      page += f'\n\nThe nearest that fits{place}:\n{extra["flags"]}'
    else:
      page += (
        f'\n\nNo variant that was compiled fits (--search={_SEARCH.value}).'
      )
  terminal.say(json.dumps(extra | found) if _JSON.value else page)
  if _PLOT.value:
    from train.fitting import picture

    picture.draw(_PLOT.value, title, found)
  if failed:
    raise failed


def _name():
  """The config as the user gave it."""
  value = flags.FLAGS['config'].config_filename or ''
  return os.path.relpath(value) if os.path.isabs(value) else value


class _Optional(flags.ArgumentParser):
  """A flag whose value may be left out: --search, --search=3."""

  def __init__(self, default, kind):
    super().__init__()
    self.default, self.kind = default, kind

  def parse(self, argument):
    if argument in ('true', True):
      return self.default
    if argument in ('false', False, None):
      return self.kind()
    try:
      return self.kind(argument)
    except ValueError:
      raise ValueError(f'{argument!r} is not a whole number') from None

  def flag_type(self):
    return self.kind.__name__


def _define_optional(name, default, kind, text):
  parser = _Optional(default, kind)
  flag = flags.Flag(parser, None, name, kind(), text, boolean=True)
  return flags.DEFINE_flag(flag)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]'
  )
  _TOPOLOGY = flags.DEFINE_string(
    'topology', '', 'A TPU slice, such as v5p:4x4x4 or v5p-128, or GPUs, such '
    "as h100:8; default: the config's; here: the devices here."
  )  # fmt: skip
  _SLICES = flags.DEFINE_integer(
    'slices', None, 'How many such slices, joined by the slow network; '
    "default: the config's of its slice, 1 of another.",
    lower_bound=1,
  )  # fmt: skip
  _MESH = flags.DEFINE_string(
    'mesh', '', 'Short for --config.sharding.mesh.*, and rules that cut along '
    'it: --mesh=fsdp=8,tensor=4.'
  )  # fmt: skip
  _SEARCH = _define_optional(
    'search', 5, int, 'If the step does not fit, compile at most so many '
    'variants (5) for one that does.'
  )  # fmt: skip
  _SWEEP = _define_optional(
    'sweep', 'true', str, 'Tabulate meshes, or those of '
    '--sweep=fsdp=256/fsdp=64,tensor=4.'
  )  # fmt: skip
  _PLOT = flags.DEFINE_string('plot', '', 'Draw memory and time: FILE.png.')
  _JSON = flags.DEFINE_bool('json', False, 'Print one line of JSON alone.')
  flags.mark_flag_as_required('config')
  command.run(main)
