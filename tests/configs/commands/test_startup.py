"""How a command begins and ends: its imports, Ctrl-C, closed streams."""

import ast
import os
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

# A package whose import takes all of ours, after the libraries that they use.
PACKAGE = """
import atexit, importlib, os, signal, sys
from absl import flags
import flax.linen, jax, matplotlib.figure, ml_collections, optax
import orbax.checkpoint, orjson, safetensors, sentencepiece

def state():
  signals = [signal.getsignal(number) for number in signal.valid_signals()]
  hooks = sys.excepthook, sys.unraisablehook
  late = [sys.modules.get(name, '-') for name in ('torch', 'tensorboardX')]
  return (
    dict(os.environ), signals, hooks, list(sys.path), list(sys.argv), late,
    atexit._ncallbacks(),
  )

before, known = state(), set(flags.FLAGS)
for module in MODULES:
  importlib.import_module(module)
  assert state() == before, module
  for name in set(flags.FLAGS) - known:  # each command has its own flags
    delattr(flags.FLAGS, name)
"""


def test_importing_a_module_changes_nothing_global(tmp_path):
  """Not even in a package that runs as `python -m`, as our commands do.

  torch and tensorboardX, which imports it, wait until they are used. The two
  modules that need the extra `lm_eval` are left out: it changes what it likes.
  """
  lm_eval = 'train.evaluation.harness', 'train.evaluation.harness_tasks'
  modules = [
    path.relative_to(REPOSITORY).with_suffix('').as_posix().replace('/', '.')
    for package in ('configs', 'models', 'input_pipeline', 'train')
    for path in sorted((REPOSITORY / package).rglob('*.py'))
    if path.stem not in ('__init__', '__main__')
  ]
  modules = [name for name in modules if name not in lm_eval]
  assert len(modules) > 200
  package = tmp_path / 'theirs'
  package.mkdir()
  (package / '__init__.py').write_text(f'MODULES = {modules}{PACKAGE}')
  (package / '__main__.py').write_text('print("done")')
  done = subprocess.run(
    [sys.executable, '-m', 'theirs'], cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout == 'done\n', done.stderr


BEGIN = """
from configs.commands import startup
if __name__ == '__main__':
  startup.begin()
"""


def test_commands_begin_before_they_import_libraries():
  """Each command of a package that imports JAX or TensorFlow begins first."""
  count = 0
  for package in ('input_pipeline', 'models', 'train'):
    for path in (REPOSITORY / package).rglob('*.py'):
      body = ast.parse(path.read_text(encoding='utf-8')).body
      if not any('__main__' in ast.unparse(node) for node in body[1:]):
        continue
      if path.name == 'worker.py':  # it imports nothing of Treeline
        continue
      count += 1
      light = ('import os', 'import runpy')  # of the standard library
      first = [ast.unparse(x) for x in body[1:] if ast.unparse(x) not in light]
      wanted = [ast.unparse(node) for node in ast.parse(BEGIN).body]
      assert first[0] == wanted[0], path
      assert first[1].startswith(wanted[1]), path
  assert count >= 9


STOP = 'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n'
RUN = (
  f'from configs.commands import command\ncommand.run(lambda: exec({STOP!r}))'
)


@pytest.mark.parametrize(
  ('moment', 'command'),
  [
    ('optax', ['-m', 'train']),  # a library that is being imported
    ('flax', ['-m', 'models.pretrained']),
    ('config', ['-m', 'train', '--config={}/config.py', '--workdir=w']),
    ('main', ['-c', RUN]),
  ],
)
def test_ctrl_c_before_the_first_step(tmp_path, moment, command):
  """Ctrl-C ends imports, flags and runs with one line and status 130."""
  (tmp_path / f'{moment}.py').write_text(STOP)
  done = subprocess.run(
    [sys.executable, *(word.replace('{}', str(tmp_path)) for word in command)],
    env=os.environ | {'PYTHONPATH': f'{tmp_path}:{os.getcwd()}'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 130
  assert done.stderr == 'Interrupted.\n'


IN_A_CALLBACK = """
import gc, os, signal, sys, time
from configs.commands import startup

startup.begin()
again = []

def collected(phase, info):
  if not again:
    again.append(phase)
    os.kill(os.getpid(), signal.SIGINT)
    [None for _ in range(100)]

gc.callbacks.append(collected)
gc.collect()
for _ in range(1000):
  time.sleep(0.01)
"""


def test_ctrl_c_while_the_collector_works():
  """Python would print what a callback raises, and continue."""
  done = subprocess.run(
    [sys.executable, '-c', IN_A_CALLBACK], capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (130, 'Interrupted.\n')


@pytest.mark.parametrize(
  ('code', 'status'),
  [
    ('command.run(lambda: print(sys.stdout.isatty(), file=sys.stderr))', 0),
    ('interrupt.end()', 130),
  ],
)
def test_streams_that_are_closed(code, status):
  """Output is closed in a background job: `python -m train ... >&- 2>&-`."""
  code = f'import sys\nfrom configs.commands import command, interrupt\n{code}'
  done = subprocess.run(
    ['sh', '-c', 'exec "$0" -c "$1" >&- 2>&-', sys.executable, code]
  )
  assert done.returncode == status
