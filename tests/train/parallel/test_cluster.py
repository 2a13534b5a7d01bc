"""Which process this is: by flags, or as the cluster says."""

import re

import pytest

from configs.commands.command import UserError
from train.parallel.cluster import ADDRESS, MPI, SLURM, find

STEP = dict(
  zip(SLURM, ('70001', 'node[007-009,012],other3', '8', '5', '1'), strict=True)
)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
  for name in (*SLURM, MPI, ADDRESS, 'KUBERNETES_SERVICE_HOST'):
    monkeypatch.delenv(name, raising=False)


def setenv(monkeypatch, values):
  for name, value in values.items():
    monkeypatch.setenv(name, value)


def test_flags_say_all(monkeypatch):
  setenv(monkeypatch, STEP)
  assert find('host:1234', 4, 3, 10) == ('host:1234', 4, 3)


def test_slurm(monkeypatch):
  setenv(monkeypatch, STEP)
  address, count, number = find('auto', None, None, 10)
  # The port is of the job, so that two jobs on a node do not meet.
  assert re.fullmatch(r'node007:6\d{4}', address)
  assert (count, number) == (8, 5)
  assert find('other:99', None, None, 10) == ('other:99', 8, 5)


def test_open_mpi(monkeypatch):
  rank = {
    'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
    'OMPI_COMM_WORLD_SIZE': '3',
    'OMPI_COMM_WORLD_RANK': '2',
    'OMPI_COMM_WORLD_LOCAL_RANK': '0',
  }
  setenv(monkeypatch, rank)
  address, count, number = find('auto', None, None, 10)
  assert address.startswith('10.96.0.1:6')
  assert (count, number) == (3, 2)


def test_an_address_in_the_environment(monkeypatch):
  monkeypatch.setenv(ADDRESS, 'host:99')
  assert find('auto', 2, 1, 10) == ('host:99', 2, 1)
  monkeypatch.setenv(ADDRESS, 'host')
  message = r'\$JAX_COORDINATOR_ADDRESS=host must be HOST:PORT, .* 65535\.$'
  with pytest.raises(ValueError, match=message):
    find('auto', 2, 1, 10)


def test_nothing_is_found():
  with pytest.raises(UserError) as failed:
    find('auto', None, None, 10)
  text = str(failed.value)
  assert text.startswith('--coordinator=auto found no cluster. Looked for: ')
  for name in ('Cloud TPU VM', 'TPU_WORKER_HOSTNAMES', 'OMPI_MCA_orte_hnp_uri'):
    assert name in text
  assert f'SLURM ({", ".join(SLURM)} not set), ' in text
  assert '--coordinator=HOST:PORT --processes=N --process=I' in text
  with pytest.raises(UserError, match='host:1 needs --processes=N and --proc'):
    find('host:1', None, 1, 10)


def test_a_batch_script_without_srun(monkeypatch):
  setenv(monkeypatch, {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2'})
  missing = r'SLURM_STEP_NODELIST, SLURM_PROCID, SLURM_LOCALID not set'
  with pytest.raises(UserError, match=rf'SLURM \({missing}\): start .* srun'):
    find('auto', None, None, 10)


def test_a_cluster_that_says_too_little(monkeypatch):
  setenv(monkeypatch, STEP | {'SLURM_PROCID': 'x'})
  with pytest.raises(UserError, match=r'which process this is \(ValueError: '):
    find('auto', None, None, 10)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (('host', 2, 0), 'must be HOST:PORT'),
    ((':80', 2, 0), 'must be HOST:PORT'),
    (('host:0', 2, 0), 'a port from 1 to 65535'),
    (('host:65536', 2, 0), 'a port from 1 to 65535'),
    (('host:80', 2, 2), '--process=2 must be from 0 to 1, as --processes=2'),
    (('host:80', 2, -1), '--process=-1 must be from 0 to 1'),
  ],
)
def test_flags_that_do_not_fit(flags, message):
  with pytest.raises(ValueError, match=message):
    find(*flags, 10)
