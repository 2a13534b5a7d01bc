"""Too little memory is reported in one line, not by a library's traceback."""

import resource
import sys

# Below this limit, importing JAX or TensorFlow ends the process by a signal;
# above it their errors can be reported. Training a tiny model takes 4 GiB of
# addresses.
LEAST = 7 * 2**29  # bytes
_SIGNS = (
  'bad_alloc',
  'cannot allocate memory',
  'failed to map segment',
  'out of memory',
  'resource_exhausted',
)


def check_limit() -> None:
  """Ends the command if `ulimit -v` leaves less than its imports take."""
  limit = _limit()
  if limit and limit < LEAST:
    print(
      f'Error: ulimit -v leaves {limit / 2**30:.1f} GiB of addresses, and '
      'importing the libraries and training takes about 4: raise it.',
      file=sys.stderr,
    )
    sys.exit(1)


def missing(error: BaseException | None) -> str:
  """The message for an error caused by too little memory; '' for others."""
  while error is not None:
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS):
      limit = _limit()
      by = f' (ulimit -v is {limit / 2**30:.1f} GiB)' if limit else ''
      why = str(error).strip().split('\n')[0][:200] or 'MemoryError'
      return (
        f'There is too little memory{by}: {why}. Give the process more, or '
        'lower data.batch, data.length or the size of the model.'
      )
    error = error.__cause__ or error.__context__
  return ''


def _limit() -> int:
  """Bytes of addresses that the process may have; 0: no limit."""
  soft, _ = resource.getrlimit(resource.RLIMIT_AS)
  return 0 if soft == resource.RLIM_INFINITY else soft
