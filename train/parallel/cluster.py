"""Which process of how many this is, and where process 0 listens.

On clusters that JAX knows, their variables or metadata say so.
"""

import os

from configs.commands.command import UserError

SLURM = (
  *('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_NTASKS'),
  *('SLURM_PROCID', 'SLURM_LOCALID'),
)
MPI = 'OMPI_MCA_orte_hnp_uri'
ADDRESS = 'JAX_COORDINATOR_ADDRESS'


def find(
  coordinator: str, count: int | None, number: int | None, timeout: float
) -> tuple[str, int, int]:
  """HOST:PORT of process 0, the number of processes, and this one's.

  What is not given is looked for: `coordinator` may be 'auto'.

  Args:
    coordinator: --coordinator.
    count: --processes.
    number: --process.
    timeout: seconds in which the cluster must answer.

  Raises:
    ValueError: flags that do not go together, or an address that is none.
    UserError: no cluster is found, or it does not say all.
  """
  auto = coordinator == 'auto'
  address = os.environ.get(ADDRESS) or None if auto else coordinator
  if address:
    name, _, port = address.rpartition(':')
    if not (name and port.isdecimal() and 0 < int(port) < 2**16):
      where = f'${ADDRESS}={address}' if auto else f'--coordinator={address}'
      raise ValueError(
        f'{where} must be HOST:PORT, with a port from 1 to {2**16 - 1}'
        + ('.' if auto else ', or auto.')
      )
  if None in (address, count, number):
    address, count, number = _detect(address, count, number, timeout)
  if None in (address, count, number):
    raise UserError(
      _looked_for()
      if auto
      else f'--coordinator={coordinator} needs --processes=N and --process=I, '
      'on a cluster that JAX does not know.'
    )
  if not 0 <= number < count:
    raise ValueError(
      f'--process={number} must be from 0 to {count - 1}, as --processes='
      f'{count}.'
    )
  return address, count, number


def _detect(
  address: str | None, count: int | None, number: int | None, timeout: float
) -> tuple[str | None, int | None, int | None]:
  """What is None is filled in by JAX, where it knows the cluster."""
  try:
    # JAX keeps this to itself, though `jax.distributed.initialize` uses it.
    from jax._src.clusters import ClusterEnv

    detect = ClusterEnv.auto_detect_unset_distributed_params
  except (ImportError, AttributeError):
    return address, count, number
  try:
    found = detect(address, count, number, None, None, int(timeout))
    return found[0], found[1], found[2]
  except Exception as error:  # of many kinds: metadata, variables, names
    line = str(error).split('\n')[0]
    raise UserError(
      'The cluster does not say which process this is '
      f'({type(error).__name__}: {line}). Give --coordinator=HOST:PORT '
      '--processes=N --process=I.'
    ) from error


def _looked_for() -> str:
  """The message where no cluster was found."""
  missing = [name for name in SLURM if name not in os.environ]
  slurm = f'SLURM ({", ".join(missing)} not set)'
  if 'SLURM_JOB_ID' in os.environ:
    slurm += ': start the command with srun'
  return (
    '--coordinator=auto found no cluster. Looked for: a Cloud TPU VM (TPU '
    'chips, libtpu and its metadata server), TPUs on GKE (TPU_WORKER_HOSTNAMES '
    f'and TPU_WORKER_ID), {slurm}, Open MPI ({MPI}), Kubernetes '
    '(KUBERNETES_SERVICE_HOST and the package kubernetes). Give '
    '--coordinator=HOST:PORT --processes=N --process=I.'
  )
