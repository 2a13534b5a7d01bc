"""`python -m train --config=configs/FILE.py[:ARG] --workdir=DIR`: trains.

Any key of the config can be set: `--config.data.batch=64`. In the workdir of a
run, training resumes from its newest checkpoint, without --config too. With
--init_from=W[:STEP] a new run begins with the parameters of another; with
--accept_changed_config a run resumes with another rate; --adapter=NAME trains
one of several adapters over one base. Several hosts: give
`--coordinator=auto` on TPU pods and under SLURM, elsewhere
`--coordinator=HOST:PORT --processes=N --process=I` on each. The status 75 means
that another one died or hangs: the same commands resume.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

from absl import flags
from ml_collections import config_flags

from train import loop
from train.parallel import processes
from train.runs import adapters, command

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/FILE.py[:ARG]; default: the config in the workdir.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, "The run's folder: made if missing, never overwritten.",
  required=True,
)  # fmt: skip
_ADAPTER = adapters.define_flag(
  'A name: the run is WORKDIR/adapters/NAME, and what is frozen is stored once '
  'for all adapters, in WORKDIR/base.',
)
_ACCEPT = flags.DEFINE_bool(
  'accept_changed_data', False,
  "Resume though the data differ from the checkpoint's; reports what changed.",
)  # fmt: skip
_CHANGED = flags.DEFINE_bool(
  'accept_changed_config', False,
  'Resume with another rate, schedule, number of steps, evaluation or logging; '
  "the change is recorded in the run's history.",
)  # fmt: skip
_INIT = flags.DEFINE_string(
  'init_from', '',
  'WORKDIR[:STEP]: begin a new run with the parameters of that checkpoint, by '
  'default its newest, and with its tokenizer.',
)  # fmt: skip
_STATE = flags.DEFINE_bool(
  'init_state', False,
  "Take the optimizer's state and the step from --init_from too.",
)  # fmt: skip
_PROFILE = flags.DEFINE_string(
  'profile', '',
  'FROM:TO: profile these steps, into WORKDIR/profile for xprof.',
)  # fmt: skip
processes.define_flags()


def main():
  processes.join()
  loop.train(
    _CONFIG.value,
    adapters.begin(_WORKDIR.value, _ADAPTER.value),
    accept_changed_data=_ACCEPT.value,
    accept_changed_config=_CHANGED.value,
    init_from=_INIT.value,
    init_state=_STATE.value,
    profile=_PROFILE.value,
  )


if __name__ == '__main__':
  command.run(main)
