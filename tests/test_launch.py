"""The scripts in examples/launch, with programs that stand for a cluster's."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml

from tests.helpers import REPOSITORY, runs

LAUNCH = REPOSITORY / 'examples/launch'
# Reports its arguments, and ends as STATUSES says, each time with the next.
PROGRAM = """#!/bin/bash
echo "$(basename "$0") $*" >> "$SHOWN"
case $(basename "$0") in scancel) pkill -TERM -P "$(cat "$PID")"; esac
case $(basename "$0") in python | srun) ;; *) exit 0 ;; esac
read -r status < "$STATUSES"
sed -i 1d "$STATUSES"
if [[ $status == wait ]]; then
  trap 'kill $!; exit 0' TERM
  sleep 60 & wait
fi
exit "$status"
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
  """A function: starts a script, with what its programs end with."""
  folder = tmp_path / 'programs'
  folder.mkdir()
  for name in ('python', 'srun', 'scancel', 'scontrol', 'gcloud'):
    (folder / name).write_text(PROGRAM)
    (folder / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
  for name, value in {
    'SHOWN': tmp_path / 'shown', 'STATUSES': tmp_path / 'statuses',
    'PID': tmp_path / 'pid', 'PAUSE': 0,
  }.items():  # fmt: skip
    monkeypatch.setenv(name, str(value))

  def begin(script, *arguments, statuses=()):
    (tmp_path / 'shown').write_text('')
    (tmp_path / 'statuses').write_text(''.join(f'{x}\n' for x in statuses))
    process = subprocess.Popen(
      ['bash', LAUNCH / script, *arguments], cwd=REPOSITORY,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    (tmp_path / 'pid').write_text(str(process.pid))
    return process

  return begin


def shown(folder):
  return (folder / 'shown').read_text().splitlines()


def until_running(folder):
  limit = time.monotonic() + 30
  while not (folder / 'shown').read_text() and time.monotonic() < limit:
    time.sleep(0.01)
  time.sleep(0.2)


@pytest.mark.parametrize('script', ['until_done.sh', 'slurm.sh'])
@pytest.mark.parametrize(
  ('statuses', 'last'),
  [((0,), 0), ((75, 139, 0), 0), ((75, 1), 1), ((130,), 130)],
)
def test_starts_again(start, tmp_path, monkeypatch, script, statuses, last):
  monkeypatch.setenv('SLURM_JOB_ID', '7')
  process = start(script, '--workdir=a b', statuses=statuses)
  output = process.communicate(timeout=60)[0]
  assert process.returncode == last, output
  starts = shown(tmp_path)
  assert len(starts) == len(statuses)
  assert all('-m train' in line and '--workdir=a b' in line for line in starts)
  if last == 0 and len(statuses) > 1:
    assert 'ended with status 139: again in 0 s' in output


def test_sigterm_ends_it(start, tmp_path):
  process = start('until_done.sh', '--workdir=W', statuses=['wait'])
  until_running(tmp_path)
  process.terminate()
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert len(shown(tmp_path)) == 1


def test_the_time_limit_of_slurm(start, tmp_path, monkeypatch):
  """USR1 to the script: the processes save, and the job is queued again."""
  monkeypatch.setenv('SLURM_JOB_ID', '7')
  process = start('slurm.sh', '--workdir=W', statuses=['wait'])
  until_running(tmp_path)
  process.send_signal(signal.SIGUSR1)
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert shown(tmp_path)[1:] == [
    'scancel --signal=TERM 7',
    'scontrol requeue 7',
  ]
  text = (LAUNCH / 'slurm.sh').read_text()
  assert '#SBATCH --signal=B:USR1@600' in text


@pytest.mark.parametrize(
  ('script', 'number', 'status', 'last'),
  [
    ('until_done.sh', signal.SIGTERM, 75, []),
    ('slurm.sh', signal.SIGUSR1, 0, ['scancel', 'scontrol']),
  ],
)
def test_a_signal_between_two_starts(
  start, tmp_path, monkeypatch, script, number, status, last
):
  """Nothing starts again."""
  monkeypatch.setenv('SLURM_JOB_ID', '7')
  monkeypatch.setenv('PAUSE', '1')
  process = start(script, '--workdir=W', statuses=[75, 0])
  assert 'ended with status 75' in process.stdout.readline()
  process.send_signal(number)
  process.communicate(timeout=60)
  assert process.returncode == status
  assert [line.split()[0] for line in shown(tmp_path)[1:]] == last


def test_an_array_of_shards(start, tmp_path, monkeypatch):
  monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '3')
  monkeypatch.setenv('SLURM_ARRAY_TASK_COUNT', '16')
  assert start('prepare_array.sh', '--out=W', statuses=[0]).wait(60) == 0
  assert shown(tmp_path) == [
    'python -m input_pipeline.prepare --jobs=0 --shard=3/16 --out=W'
  ]
  monkeypatch.setenv('SLURM_ARRAY_TASK_COUNT', '2')  # some of them again
  monkeypatch.setenv('SHARDS', '16')
  assert start('prepare_array.sh', statuses=[0]).wait(60) == 0
  assert '--shard=3/16' in shown(tmp_path)[0]


def test_a_tpu(start, tmp_path, monkeypatch):
  monkeypatch.setenv('TPU', 'mine')
  monkeypatch.setenv('ZONE', 'here')
  for name in ('TYPE', 'VERSION', 'HOSTS'):
    monkeypatch.setenv(name, '4')
  for task, found in {
    'create': 'queued-resources create mine --zone=here --node-id=mine',
    'state': 'queued-resources describe mine',
    'start': "until_done.sh       --coordinator=auto --config.a=\\'b\\'",
    'prepare': "--shard=$TPU_WORKER_ID/4 --config.a=\\'b\\'",
    'watch': 'ssh mine --zone=here --worker=0',
    'stop': "pkill -TERM -f '[u]ntil_done.sh'",
    'delete': 'queued-resources delete mine',
  }.items():
    process = start('tpu_vm.sh', task, "--config.a='b'")
    assert process.wait(60) == 0, process.stdout.read()
    assert found in ' '.join(shown(tmp_path)), task
  process = start('tpu_vm.sh', 'nothing')
  assert process.wait(60) == 1


# Starts two processes, as srun does.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for number in 0 1; do
  SLURM_PROCID=$number SLURM_LOCALID=$number "$@" &
  tasks+=($!)
done
worst=0
for task in "${tasks[@]}"; do
  wait "$task" || worst=$?
done
exit "$worst"
"""


@pytest.mark.slow
def test_two_nodes(tmp_path, monkeypatch):
  """slurm.sh with two real processes, which find each other by themselves."""
  (tmp_path / 'programs').mkdir()
  srun = tmp_path / 'programs/srun'
  srun.write_text(SRUN)
  srun.chmod(0o755)
  for port in range(61440, 65536):  # where JAX looks for a job's coordinator
    with socket.socket() as taken:
      if taken.connect_ex(('localhost', port)):
        break
  settings = runs.STEPS | {'data__source': runs.write_text(tmp_path / 'text')}
  runs.train(tmp_path / 'alone', devices=4, **settings)
  folders = tmp_path / 'programs', os.path.dirname(sys.executable)
  done = subprocess.run(
    [LAUNCH / 'slurm.sh', *runs.command(tmp_path / 'run', **settings)[3:]],
    cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=500,
    env=runs.environment(devices=2) | {
      'PATH': f'{folders[0]}:{folders[1]}:{os.environ["PATH"]}', 'PAUSE': '1',
      'SLURM_JOB_ID': str(port - 61440), 'SLURM_NTASKS': '2',
      'SLURM_STEP_NODELIST': 'localhost',
    },
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'Done: step 4 of 4.' in done.stdout
  found, expected = runs.rows(tmp_path / 'run'), runs.rows(tmp_path / 'alone')
  assert found == [(step, pytest.approx(x, rel=1e-5)) for step, x in expected]


def test_the_job_set():
  job = yaml.safe_load((LAUNCH / 'jobset.yaml').read_text())
  assert job['kind'] == 'JobSet'
  (slices,) = job['spec']['replicatedJobs']
  inner = slices['template']['spec']
  assert inner['parallelism'] == inner['completions']
  pod = inner['template']['spec']
  (container,) = pod['containers']
  rule = inner['podFailurePolicy']['rules'][0]['onExitCodes']
  assert rule['containerName'] == container['name']
  # Kubernetes takes these rules with this restart policy alone.
  assert pod['restartPolicy'] == 'Never'
  chips = 1
  for side in pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split(
    'x'
  ):
    chips *= int(side)
  limit = container['resources']['limits']['google.com/tpu']
  assert chips == limit * inner['parallelism']


def test_flags_exist():
  """Every flag of our commands in the scripts and the document is one."""
  files = [*REPOSITORY.glob('train/**/*.py'), *REPOSITORY.glob('input_*/*.py')]
  defined = '\n'.join(path.read_text() for path in files)
  ours = {'workdir', 'config', 'coordinator', 'processes', 'process', 'out'}
  ours |= {'shard', 'jobs', 'topology'}
  texts = [path.read_text() for path in sorted(LAUNCH.iterdir())]
  texts.append((REPOSITORY / 'docs/launch.md').read_text())
  used = set(re.findall(r'--([a-z_]+)', '\n'.join(texts))) & ours
  assert used == ours
  for name in used:
    assert re.search(rf"DEFINE_\w+\(\s*'{name}'", defined), name
