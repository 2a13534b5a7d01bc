"""Processes of one run that die, hang, are missing or odd; and go on."""

import contextlib
import re
import shutil
import signal
import socket

import numpy as np
import pytest

from tests.helpers import processes, runs
from tests.helpers.processes import assert_equal_runs, free_port, signalled
from train.fingerprint import fingerprint
from train.parallel.meeting import AGAIN

pytestmark = pytest.mark.slow

HOST = socket.gethostname()
SETTINGS = {
  'system': 'gpt2',
  'data__tokenizer_kind': 'bytes',
  'data__lowercase': False,
  'model__vocab_size': 300,
  'sharding__rules': 'fsdp',
  'sharding__mesh__data': 1,
  'sharding__mesh__fsdp': -1,
  'train__steps': 16,
  'eval__batches': 1,
}
# Another host's code, which differs in one file.
ODD = """
import runpy
from train.parallel import software

files = software._files
software._files = lambda: files() | {'train/loop.py': 'another'}
runpy.run_module('train', run_name='__main__', alter_sys=True)
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return runs.write_text(tmp_path_factory.mktemp('data') / 'text')


@pytest.fixture(scope='module')
def command(source):
  """The command of a run of 16 steps in a folder."""

  def of(folder, *flags):
    return runs.command(folder, *flags, data__source=source, **SETTINGS)

  return of


def ends(programs, continued=False):
  """(status, stderr) of each process, which must end by itself.

  `continued`: the last is stopped; it goes on when the others have ended.
  """
  with contextlib.ExitStack() as stack:
    for program in programs:
      stack.callback(program.kill)
    if continued:
      for program in programs[:-1]:
        program.wait(100)
      programs[-1].send_signal(signal.SIGCONT)
    found = [program.communicate(timeout=200)[1] for program in programs]
  return [(x.returncode, y) for x, y in zip(programs, found, strict=True)]


def last_line(stderr):
  return stderr.rstrip('\n').split('\n')[-1]


def started(command, folder, count, victim, place, number, *flags):
  """Processes of which one gets a signal at a place."""

  def one(*own):
    found = command(folder, *own, *flags)
    if f'--process={victim}' in own:
      return signalled(found, place, number)
    return found

  return processes.start_all(count, one)


@pytest.fixture(scope='module')
def whole(tmp_path_factory, source):
  """The workdir of a run of two processes that SLURM started; their stdouts."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  command = runs.command(
    folder, '--coordinator=auto', data__source=source, **SETTINGS
  )
  step = {
    'SLURM_JOB_ID': '7',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': '2',
    'SLURM_LOCALID': '0',
    'JAX_COORDINATOR_PORT': str(free_port()),
  }
  programs = []
  for number in (0, 1):
    with pytest.MonkeyPatch.context() as patched:
      for name, value in (step | {'SLURM_PROCID': str(number)}).items():
        patched.setenv(name, value)
      programs.append(runs.start(command, devices=4))
  return folder, processes.finish(programs)


@pytest.fixture(scope='module')
def killed(tmp_path_factory, command):
  """A run of two whose second process was killed; its workdir, their ends."""
  folder = tmp_path_factory.mktemp('killed') / 'run'
  return folder, ends(started(command, folder, 2, 1, 'step 6', signal.SIGKILL))


def test_slurm_says_who_is_who(whole):
  _, stdouts = whole
  assert 'Done: step 16 of 16.' in stdouts[0]
  assert 'step ' not in stdouts[1]


def test_killed_and_started_again(command, whole, killed, tmp_path):
  """One is killed in a step, then the first, then one hangs: the same bits.

  Each time the other names it in its last line, within seconds.
  """
  folder = tmp_path / 'run'
  name = rf'process (\d) \({re.escape(HOST)}\)'
  advice = f'All processes end with status {AGAIN}: run the same commands again'

  def check(line, victim, what):
    found = re.match(rf'Error: {name} {what}', line)
    assert found, line
    assert found[1] == str(victim)
    assert advice in line

  (status, stderr), (dead, _) = killed[1]
  assert (status, dead) == (AGAIN, -signal.SIGKILL)
  # The place is that of its last sign of life, a second before at most.
  place = r'(?:saving step 4|step [56])'
  check(last_line(stderr), 1, rf'has died in {place}: its connection closed')
  assert stderr.count('\n') == 1, stderr

  # JAX's own service dies with the first process.
  shutil.copytree(killed[0], folder)
  again = started(command, folder, 2, 0, 'step 10', signal.SIGKILL)
  (dead, _), (status, stderr) = ends(again)
  assert (status, dead) == (AGAIN, -signal.SIGKILL)
  check(last_line(stderr), 0, 'has died: its connection closed')

  hung = started(
    command, folder, 2, 1, 'step 14', signal.SIGSTOP, '--hang_timeout=4'
  )
  (status, stderr), (late, _) = ends(hung, continued=True)
  assert (status, late) == (AGAIN, AGAIN)
  check(last_line(stderr), 1, '(has given no sign of life for|has been in) ')

  stdout, _ = processes.finish(
    processes.start_two(lambda *flags: command(folder, *flags))
  )
  # That of step 12, if it was written by the end.
  assert re.search(r'Resuming from the checkpoint of step (8|12)\.', stdout)
  assert_equal_runs(folder, whole[0])


def test_two_then_one_then_four(command, whole, killed, tmp_path):
  """Killed, and started again on fewer and on more hosts: the same batches."""
  folder = tmp_path / 'run'
  shutil.copytree(killed[0], folder)
  alone = runs.start(
    signalled(command(folder), 'step 10', signal.SIGKILL), devices=8
  )
  assert ends([alone])[0][0] == -signal.SIGKILL
  stdout, *_ = processes.finish(
    processes.start_all(4, lambda *flags: command(folder, *flags))
  )
  assert re.search(r'Resuming from the checkpoint of step [48]\.', stdout)
  # Sums over devices are made in another order.
  for key, tolerance in (
    ('train/tokens', 0),
    ('train/loss', 1e-5),
    ('train/grad_norm', 1e-4),
  ):
    found, expected = runs.rows(folder, key), runs.rows(whole[0], key)
    assert len(found) == 16
    np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=key)
  ours, expected = fingerprint(str(folder)), fingerprint(str(whole[0]))
  for key in ('step', 'cursor', 'data'):
    assert ours[key] == expected[key]


def test_code_that_differs(command, tmp_path):
  """Both end, with the file and the hosts, before anything is written."""

  def one(*flags):
    found = command(tmp_path / 'run', *flags)
    odd = '--process=1' in flags
    return [found[0], '-c', ODD, *found[3:]] if odd else found

  for status, stderr in ends(processes.start_two(one)):
    assert status == 1
    assert (
      'Error: The 2 processes of this run were started with different '
      in (stderr)
    )
    assert re.search(
      rf'train/loop.py is #\w+ on process 0 \({re.escape(HOST)}\), #anothe on '
      rf'process 1 \({re.escape(HOST)}\)\n',
      stderr,
    )
    assert 'Traceback' not in stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('number', 'message'),
  [
    (0, 'process 1 of 2 did not come to port'),
    (1, 'process 0 of 2 did not answer at --coordinator=localhost:'),
  ],
)
def test_one_is_missing(command, tmp_path, number, message):
  """The status says to try again: its host may be late."""
  flags = [f'--coordinator=localhost:{free_port()}', '--processes=2']
  flags += [f'--process={number}', '--join_timeout=1']
  [(status, stderr)] = ends([runs.start(command(tmp_path / 'run', *flags))])
  assert status == AGAIN
  assert stderr.startswith(f'Error: {message}')
  assert stderr.count('\n') == 1


def test_the_port_is_taken(command, tmp_path):
  with socket.create_server(('', 0)) as taken:
    port = taken.getsockname()[1]
    flags = [f'--coordinator=localhost:{port}', '--processes=2', '--process=0']
    flags.append('--join_timeout=1')  # else it waits for an earlier start
    [(status, stderr)] = ends([runs.start(command(tmp_path / 'run', *flags))])
  assert status == 1
  assert stderr.startswith(f'Error: --coordinator: port {port} of this host')
  assert stderr.count('\n') == 1


def test_no_cluster_is_found(command, tmp_path):
  program = runs.start(command(tmp_path / 'run', '--coordinator=auto'))
  [(status, stderr)] = ends([program])
  assert status == 1
  assert 'Error: --coordinator=auto found no cluster. Looked for: ' in stderr
  assert 'Traceback' not in stderr
