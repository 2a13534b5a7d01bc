"""Missing memory is one line, not a library's traceback or its abrupt end."""

import resource
import sys

# Below it importing JAX or TensorFlow ends the process by a signal; above it
# their errors can be reported. Training a tiny model takes 4 GiB of addresses.
LEAST = 7 * 2**29  # bytes
_SIGNS = (
  'bad_alloc',
  'cannot allocate memory',
  'failed to map segment',
  'out of memory',
  'resource_exhausted',
)


def check_limit() -> None:
  """Ends a command to which `ulimit -v` leaves less than it takes to import.

  It does nothing unless the package is imported by `python -m`.
  """
  limit = _limit()
  if sys.argv[0] == '-m' and limit and limit < LEAST:
    print(
      f'Error: ulimit -v leaves {limit / 2**30:.1f} GiB of addresses, and '
      'importing the libraries and training takes about 4: raise it.',
      file=sys.stderr,
    )
    sys.exit(1)


def missing(error: BaseException | None) -> str:
  """What to say of an error for want of memory; '' where it is another one."""
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


def _limit():
  soft, _ = resource.getrlimit(resource.RLIMIT_AS)
  return 0 if soft == resource.RLIM_INFINITY else soft
