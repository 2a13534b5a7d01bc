"""`python -m train.fit --config=FILE.py[:ARG] --topology=v5p:4x4x4`.

Compiles a config's training step for a TPU slice that is not here, with the TPU
compiler on any machine (the extra `aot`), and reports bytes a device,
floating-point operations and seconds to compile. A step that does not fit fails
to compile, as it would on the slice; the error says by how much.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import json
import os
import time
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from input_pipeline import pipeline
from train.learning.state import count_params
from train.reporting.flops import step_flops
from train.runs import command
from train.setup import Setup, set_up


def compiled_step(
  config: ConfigDict, devices: list
) -> tuple[Setup, dict[str, jax.ShapeDtypeStruct], jax.stages.Compiled, float]:
  """The setup, the batch's shapes, the training step, and seconds to compile.

  Raises what `fit` does.
  """
  setup = set_up(config, devices)
  batch = setup.batch(pipeline.batch_shapes(setup.data, config.model.family))
  clock = time.perf_counter()
  compiled = setup.compile_step(batch)
  return setup, batch, compiled, time.perf_counter() - clock


def fit(config: ConfigDict, devices: list) -> dict[str, Any]:
  """Compiles the training step for `devices`, which may be a topology's.

  Returns:
    'devices', 'parameters', 'trained' of them, 'compile_seconds', 'flops' of a
    step, and in bytes a device: 'arguments' (state and batch), 'temporary',
    'peak'.

  Raises:
    ValueError: a setting that cannot work on so many devices.
    DoesNotFitError: the compiler says that the step needs more memory.
  """
  setup, batch, compiled, seconds = compiled_step(config, devices)
  memory = compiled.memory_analysis()
  return {
    'devices': len(devices),
    'parameters': count_params(setup.state.params),
    'trained': count_params(setup.tuning.trained(setup.state.params)),
    'compile_seconds': round(seconds, 1),
    'flops': step_flops(setup.model.config, batch),
    'arguments': memory.argument_size_in_bytes,
    'temporary': memory.temp_size_in_bytes,
    'peak': _peak(memory, devices[0].platform),
  }


def _peak(memory, platform):
  """The most bytes in use at once on a device, by the compiler's analysis."""
  if platform == 'tpu':  # its temporary sum counts all its memories
    return memory.peak_memory_in_bytes
  # The state is donated: the new one replaces the old one in place.
  made = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return memory.argument_size_in_bytes + made + memory.temp_size_in_bytes


def topology(name: str) -> list:
  """Descriptions of the devices of a TPU slice such as 'v5p:4x4x4'.

  Raises ValueError if there is no TPU compiler here, or no such slice.
  """
  # Without these the compiler asks the cloud's metadata server, and waits.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5p-128')  # any will do
  # Nothing is opened but the compiler: several programs may use it at once.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  from jax.experimental import topologies

  # Two cores of a v4 make one device.
  v4 = name.startswith('v4:')
  options = {'chip_config_name': 'megacore'} if v4 else {}
  try:
    described = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options
    )
  except Exception as error:
    raise ValueError(
      f'--topology={name} cannot be described: {str(error).splitlines()[0]}. '
      "It needs libtpu (pip install 'treeline-lm[aot]') and a slice such as "
      'v4:2x2x4, v5e:4x4, v5p:4x4x4, v6e:8x8.'
    ) from error
  return list(np.ravel(described.devices))


def main():
  config, name = _CONFIG.value, _TOPOLOGY.value
  found = fit(config, topology(name) if name else jax.devices())
  sizes = 'arguments', 'temporary', 'peak'
  gib = {key: f'{found[key] / 2**30:.2f} GiB' for key in sizes}
  print(
    f'{found["parameters"]:,} parameters on {found["devices"]} devices '
    f'({name or jax.devices()[0].device_kind}), batch {config.data.batch} x '
    f'{config.data.length}: {gib["peak"]} a device ({gib["arguments"]} state '
    f'and batch, {gib["temporary"]} temporary), '
    f'{found["flops"] / 1e12:.1f} TFLOP a step, compiled in '
    f'{found["compile_seconds"]} s'
  )
  print(json.dumps({'topology': name} | found))


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]'
  )
  _TOPOLOGY = flags.DEFINE_string(
    'topology', '', 'A TPU slice, such as v5p:4x4x4; default: the devices here.'
  )
  flags.mark_flag_as_required('config')
  command.run(main)
