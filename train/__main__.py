"""`python -m train --config=configs/FILE.py[:ARG] --workdir=DIR`: trains.

Any key of the config can be set: `--config.data.batch=64`. Run again with the
same workdir, training goes on from the newest checkpoint; --config may then be
left out. Several hosts: on TPU pods and under SLURM `--coordinator=auto`,
elsewhere `--coordinator=HOST:PORT --processes=N --process=I` on each.
"""

from absl import flags
from ml_collections import config_flags

from train import command, loop, processes

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/FILE.py[:ARG]; default: the config in the workdir.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the run lies: made if missing, never overwritten.',
  required=True,
)  # fmt: skip
_ACCEPT = flags.DEFINE_bool(
  'accept_changed_data', False,
  "Go on though the data are not the checkpoint's; what changed is told.",
)  # fmt: skip
processes.define_flags()
flags.adopt_module_key_flags(processes)


def main():
  processes.join()
  loop.train(_CONFIG.value, _WORKDIR.value, _ACCEPT.value)


if __name__ == '__main__':
  command.run(main)
