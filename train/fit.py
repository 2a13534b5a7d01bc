"""`python -m train.fit --config=FILE.py[:ARG] --topology=v5p:4x4x4`.

Compiles a config's training step for a TPU slice that is not here, with the TPU
compiler on any machine (the extra `aot`), and reports bytes a device,
floating-point operations and seconds to compile. A step that does not fit fails
to compile, as it would on the slice; the error says by how much.
"""

from configs import startup

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
from models.config import TransformerConfig
from models.families.electra import generator_config
from train.learning.state import count_params
from train.runs import command
from train.setup import set_up


def step_flops(config: TransformerConfig, batch: dict[str, Any]) -> float:
  """Floating-point operations of one training step, all devices together.

  The convention of PaLM (Chowdhery et al. 2022, appendix B): matrix products
  alone, those of the input's positions included, forward and twice backward;
  what remat computes again not counted, a masked attention counted whole.

  Args:
    config: of the model.
    batch: shapes by name, as the model reads them.
  """
  c = config
  B, T = batch['inputs'].shape
  predicted = B * batch['targets'].shape[1]
  head = c  # of the stack that predicts tokens
  match c.family:
    case 'encoder_decoder':
      S = batch['encoder_inputs'].shape[1]
      queries, keys, pairs = _attention(c)
      cross = T * queries + S * keys + T * S * pairs
      forward = _stack(c, c.encoder_layers, B, S, causal=False)
      forward += _stack(c, c.decoder_layers, B, T, causal=True)
      forward += B * c.decoder_layers * cross
    case 'electra':
      head = generator_config(c)
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      forward += _stack(head, c.encoder_layers, B, T, causal=False)
      forward += B * T * c.embed_dim * (c.embed_dim + 1)  # is it replaced?
    case 'rwkv':  # five square matrices and two of the channel mix
      layer = 5 * c.embed_dim**2 + 2 * c.embed_dim * c.mlp_dim
      forward = c.decoder_layers * B * T * layer
    case 'encoder':
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      if c.head == 'mlm_nsp':  # of a row's first token
        forward += B * c.embed_dim * (c.embed_dim + 2)
    case 'decoder':
      forward = _stack(c, c.decoder_layers, B, T, causal=not c.prefix)
  if head.output_transform:
    forward += predicted * head.table_width * (head.embed_dim + c.vocab_size)
  else:
    forward += predicted * head.embed_dim * c.vocab_size
  return 3.0 * 2.0 * forward


def _attention(config):
  """Multiplications: a query and its output, a key and its value, a pair."""
  c = config
  width = 2 * c.embed_dim * c.head_dim
  return width * c.heads, width * c.kv_heads, 2 * c.heads * c.head_dim


def _stack(config, layers, rows, length, causal):
  """Multiplications of a stack: the tables' projection, self-attention, MLP."""
  c = config
  mlp = (3 if c.gated else 2) * c.embed_dim * c.mlp_dim
  queries, keys, pairs = _attention(c)
  row = length * (mlp + queries + keys) + length**2 * pairs
  shared = 0  # by all rows
  if c.position == 'transformer_xl':  # a query and a distance
    distances = length if causal else 2 * length - 1
    row += length * distances * c.heads * c.head_dim
    shared = distances * c.embed_dim * c.heads * c.head_dim
  projected = 0
  if c.table_dim or c.table_width != c.embed_dim:
    projected = rows * length * c.table_width * c.embed_dim
  return projected + layers * (rows * row + shared)


def fit(config: ConfigDict, devices: list) -> dict[str, Any]:
  """Compiles the training step for `devices`, which may be a topology's.

  Returns:
    'devices', 'parameters', 'compile_seconds', 'flops' of a step, and in bytes
    a device: 'arguments' (state and batch), 'temporary', 'peak'.

  Raises:
    ValueError: a setting that cannot work on so many devices.
    DoesNotFitError: the compiler says that the step needs more memory.
  """
  setup = set_up(config, devices)
  batch = setup.batch(pipeline.batch_shapes(setup.data, config.model.family))
  clock = time.perf_counter()
  compiled = setup.compile_step(batch)
  seconds = time.perf_counter() - clock
  memory = compiled.memory_analysis()
  return {
    'devices': len(devices),
    'parameters': count_params(setup.state.params),
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

  Raises:
    ValueError: no TPU compiler here, or no such slice.
  """
  # Without these the compiler asks the cloud's metadata server, and waits.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5p-128')  # any will do
  from jax.experimental import topologies

  options = {}
  if name.startswith('v4:'):  # two cores make one device there
    options['chip_config_name'] = 'megacore'
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
  gib = {
    key: f'{found[key] / 2**30:.2f} GiB'
    for key in ('arguments', 'temporary', 'peak')
  }
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
