"""Too little memory is reported in one line."""

import resource
import subprocess
import sys

import pytest

from configs.commands import command, memory
from tests.helpers import REPOSITORY


@pytest.mark.parametrize(
  'arguments',
  [
    ['train', '--workdir=/tmp/none'],
    ['train.evaluate', '--workdir=/tmp/none'],
    ['input_pipeline.prepare', '--config=configs/t5.py:tiny', '--out=/no'],
    ['models.pretrained', '--from=/no', '--to=/no'],
  ],
)
@pytest.mark.parametrize('limit', [1 * 2**30, 3 * 2**30])
def test_a_limit_too_low_for_the_libraries(arguments, limit):
  done = subprocess.run(
    [sys.executable, '-m', *arguments],
    cwd=REPOSITORY, capture_output=True, text=True, check=False,
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
  )  # fmt: skip
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith(f'Error: ulimit -v leaves {limit >> 30}.0 GiB of ')


def raised(error, cause=None):
  """The error as a library raises it: from none of our lines."""
  error.__cause__ = cause
  scope = {'error': error}
  try:
    exec(compile('raise error', '/usr/lib/library.py', 'exec'), scope)
  except Exception as caught:
    return caught


@pytest.mark.parametrize(
  'error',
  [
    raised(MemoryError()),
    raised(ImportError('libtensorflow_cc.so.2: failed to map segment from x')),
    raised(OSError(12, 'Cannot allocate memory')),
    raised(RuntimeError('RESOURCE_EXHAUSTED: Out of memory for 9 bytes')),
    raised(RuntimeError('of the pipeline'), raised(MemoryError('Unable to'))),
  ],
)
def test_errors_for_want_of_memory(error):
  assert command.is_fixable(error)
  assert command.message(error).startswith('There is too little memory: ')
  assert '\n' not in command.message(error)


@pytest.mark.parametrize('error', [KeyError('a'), ImportError('no module a')])
def test_other_errors_keep_their_traceback(error):
  assert not command.is_fixable(raised(error))
  assert not memory.missing(error)
