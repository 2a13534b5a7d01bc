"""`python -m train --config=configs/FILE.py[:ARG] --workdir=DIR`: trains.

Any key of the config can be set: `--config.data.batch=64`. Run again with the
same workdir, training goes on from the newest checkpoint; --config may then be
left out. Several hosts: on TPU pods and under SLURM `--coordinator=auto`,
elsewhere `--coordinator=HOST:PORT --processes=N --process=I` on each.
"""

import jax
from absl import flags
from ml_collections import config_flags

from train import command, loop

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/FILE.py[:ARG]; default: the config in the workdir.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the run lies: made if missing, never overwritten.',
  required=True,
)  # fmt: skip
_COORDINATOR = flags.DEFINE_string(
  'coordinator', '', 'Several processes: HOST:PORT of process 0, or auto.'
)
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many there are.')
_PROCESS = flags.DEFINE_integer('process', None, 'Which one this is, from 0.')


def main():
  if _COORDINATOR.value:
    where = None if _COORDINATOR.value == 'auto' else _COORDINATOR.value
    if where and not where.rpartition(':')[2].isdigit():
      raise ValueError(f'--coordinator={where} must be HOST:PORT, or auto.')
    jax.distributed.initialize(where, _PROCESSES.value, _PROCESS.value)
  elif _PROCESSES.value is not None or _PROCESS.value is not None:
    raise ValueError('--processes and --process need --coordinator.')
  loop.train(_CONFIG.value, _WORKDIR.value)


if __name__ == '__main__':
  command.run(main)
