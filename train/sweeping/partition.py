"""Parts of the devices of this host, one for each run at a time.

GPUs  equal parts, by CUDA_VISIBLE_DEVICES
TPUs  equal parts of 1, 2 or 4 chips, by TPU_VISIBLE_CHIPS and the bounds that
      libtpu wants with it
CPUs  each run sees all cores and devices, as it would alone: its bits may
      depend on the number of threads. The system shares the cores.
"""

import json
import os
import subprocess
import sys

from configs.commands.command import UserError

PATIENCE = 300  # seconds in which the devices must answer
PORT = 8476  # of the first TPU process
BOUNDS = {1: '1,1,1', 2: '1,2,1', 4: '2,2,1'}  # chips of a part -> its shape
# The command itself must not hold the devices, so another process looks.
_LOOK = """
import jax, json
devices = jax.local_devices()
chips = {str(getattr(x, 'coords', x.id)) for x in devices}
print(json.dumps({
  'platform': devices[0].platform, 'devices': len(chips),
  'version': devices[0].client.platform_version,
  'processes': jax.process_count(),
}))
"""


def parts(jobs: int) -> list[dict[str, str]]:
  """The environment variables of each of so many parts.

  Raises:
    ValueError: there are no such parts.
    UserError: this is one of several hosts; the devices do not answer.
  """
  hosts = len(os.environ.get('TPU_WORKER_HOSTNAMES', '').split(','))
  tasks = int(os.environ.get('SLURM_STEP_NUM_TASKS', 1))
  if max(hosts, tasks) > 1:
    raise UserError(
      f'This is one of {max(hosts, tasks)} hosts or tasks, and a sweep trains '
      'on one host alone. --print=slurm and --print=tpu print the commands of '
      'its runs.'
    )
  if jobs < 1:
    raise ValueError(f'--jobs={jobs} must be at least 1.')
  if jobs == 1:
    return [{}]
  return divided(jobs, look(), os.environ.get('CUDA_VISIBLE_DEVICES', ''))


def look() -> dict:
  """The platform, its version and the number of devices (TPUs: of chips)."""
  try:
    done = subprocess.run(
      [sys.executable, '-c', _LOOK],
      capture_output=True,
      text=True,
      timeout=PATIENCE,
    )
  except subprocess.TimeoutExpired:
    raise UserError(
      f'The devices have not answered within {PATIENCE} s. Are they those of '
      'several hosts? --print=slurm and --print=tpu print commands for them.'
    ) from None
  if done.returncode:
    last = done.stderr.strip().split('\n')[-1]
    raise UserError(f'The devices cannot be counted: {last}')
  return json.loads(done.stdout.strip().split('\n')[-1])


def divided(jobs: int, found: dict, visible: str = '') -> list[dict[str, str]]:
  """As `parts`, of the devices that `look` has found.

  `visible` is the value of CUDA_VISIBLE_DEVICES.
  """
  platform, count = found['platform'], found['devices']
  if platform == 'cpu':
    return [{} for _ in range(jobs)]
  cuda = platform == 'gpu' and 'cuda' in found['version'].lower()
  if found['processes'] > 1 or not (cuda or platform == 'tpu'):
    raise ValueError(
      f'--jobs={jobs}: no parts are known of {platform} devices '
      f'({found["version"]}) of {found["processes"]} hosts. Use --jobs=1.'
    )
  kind = 'GPUs' if cuda else 'TPU chips'
  size = count // jobs
  if count % jobs or not (cuda or size in BOUNDS):
    fits = [n for n in range(1, count + 1) if count % n == 0]
    fits = [n for n in fits if n == 1 or cuda or count // n in BOUNDS]
    raise ValueError(
      f'--jobs={jobs} makes no equal parts of the {count} {kind} here: take '
      f'{", ".join(map(str, fits))}.'
    )
  names = visible.split(',') if cuda and visible else map(str, range(count))
  names = list(names)
  found = []
  for job in range(jobs):
    own = ','.join(names[job * size : (job + 1) * size])
    if cuda:
      found.append({'CUDA_VISIBLE_DEVICES': own})
      continue
    port = str(PORT + job)
    found.append(
      {
        'TPU_VISIBLE_CHIPS': own,
        'TPU_CHIPS_PER_PROCESS_BOUNDS': BOUNDS[size],
        'TPU_PROCESS_BOUNDS': '1,1,1',
        'TPU_PROCESS_ADDRESSES': f'localhost:{port}',
        'TPU_PROCESS_PORT': port,
        'CLOUD_TPU_TASK_ID': '0',
        'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
      }
    )
  return found
