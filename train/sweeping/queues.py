"""The commands of a sweep, for machines that this one cannot start runs on."""

import shlex
from collections.abc import Sequence

from train.sweeping.children import Run

KINDS = 'commands', 'slurm', 'tpu'
_TPU = """\
# A Cloud TPU for each run. Save this as runs.sh in Treeline's folder, then
#   export ZONE=us-west4-a TYPE=v5litepod-256 VERSION=v2-alpha-tpuv5-lite
#   bash runs.sh create --spot  # queues requests; more of gcloud's flags
#   bash runs.sh state          # until all are ACTIVE
#   bash runs.sh install
#   bash runs.sh start          # and again after a preemption: runs go on
#   bash runs.sh delete
set -u
task=${1:?create, state, install, start, stop or delete}
shift
more=("$@")
run() { # NUMBER FLAGS
  export TPU="${NAME:-sweep}-$1"
  shift
  [[ $task == start ]] || set -- ${more[@]+"${more[@]}"}
  examples/launch/tpu_vm.sh "$task" "$@"
}
"""
_SLURM = """\
# A job for each run, which uses all GPUs of its nodes. Save this as runs.sh in
# Treeline's folder, then OPTIONS='--nodes=8 --time=12:00:00' bash runs.sh
"""


def script(kind: str, runs: Sequence[Run]) -> str:
  """What trains the runs, as text for a shell.

  Args:
    kind: commands: a line for each run; slurm: one that queues it; tpu: a
      script that asks for a TPU for each run.
    runs: whose command is [python, '-m', 'train', FLAGS...].

  Raises:
    ValueError: the runs' folders cannot be seen by the hosts of a TPU.
  """
  lines = {'commands': '', 'slurm': _SLURM, 'tpu': _TPU}[kind].splitlines()
  for number, run in enumerate(runs):
    flags = shlex.join(run.command[3:])
    match kind:
      case 'commands':
        lines.append(f'python -m train {flags}')
      case 'slurm':
        name = shlex.quote(f'--job-name={run.name}')
        lines.append(
          f'sbatch ${{OPTIONS:-}} {name} examples/launch/slurm.sh {flags}'
        )
      case 'tpu':
        if not run.folder.startswith('gs://'):
          raise ValueError(
            f'--out={run.folder.rpartition("/")[0]}: all hosts of a TPU must '
            'see the runs: give --out=gs://BUCKET/FOLDER.'
          )
        lines.append(f'run {number} {flags}')
  return '\n'.join(lines)
