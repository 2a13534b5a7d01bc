"""What the compiler is asked for; compiled programs are kept and reused."""

import functools
import os
import subprocess
import sys
import types

import jax
import pytest
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from tests.helpers import REPOSITORY
from train.learning.step import compile_train_step
from train.parallel import compilation, processes, sharding
from train.parallel.mesh import make_mesh

# Compiles a function, and prints how often the cache had it.
PROGRAM = """
import sys
import jax, jax.numpy as jnp
from train.parallel import compilation
compilation.LEAST = 0.0
compilation.keep(sys.argv[1:] != ['off'])
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((9, 9))).block_until_ready()
print(sum(name.endswith('/cache_hits') for name in hits))
"""


def run(*arguments, **environment):
  """Runs PROGRAM; returns its cache hits and its stderr."""
  kept = ('JAX_COMPILATION_CACHE_DIR', 'XDG_CACHE_HOME', 'XLA_FLAGS')
  clean = {k: x for k, x in os.environ.items() if k not in kept}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, *arguments],
    env=clean | environment, cwd=REPOSITORY, text=True, capture_output=True,
    check=True, timeout=120,
  )  # fmt: skip
  return int(done.stdout.split()[-1]), done.stderr


def files(folder):
  return [path for path in folder.rglob('*') if path.is_file()]


@pytest.mark.slow
def test_a_program_is_compiled_once(tmp_path):
  home, cache, own = (tmp_path / name for name in ('home', 'cache', 'own'))
  home.mkdir()
  assert run(HOME=str(home))[0] == 0
  assert files(home / '.cache' / 'treeline' / 'compiled')
  assert run(HOME=str(home))[0] > 0
  count = len(files(home))
  assert run('off', HOME=str(home))[0] == 0
  # Variables choose another folder.
  run(HOME=str(home), XDG_CACHE_HOME=str(cache))
  assert files(cache / 'treeline' / 'compiled')
  variables = {'JAX_COMPILATION_CACHE_DIR': str(own)}
  variables['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  run(HOME=str(home), XDG_CACHE_HOME=str(cache), **variables)
  assert files(own)
  assert len(files(home)) == count
  # A file where the folder should be: no error.
  (tmp_path / 'file').touch()
  hits, stderr = run(HOME=str(tmp_path / 'file'))
  assert hits == 0
  assert 'Warning: compiled programs are not kept' in stderr


def test_the_folder(monkeypatch):
  monkeypatch.setenv('HOME', '/home/x')
  monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
  assert compilation.default_folder().startswith('/cache/treeline/compiled/')
  for value in ('', 'relative'):  # the standard says to ignore them
    monkeypatch.setenv('XDG_CACHE_HOME', value)
    folder = compilation.default_folder()
    assert folder.startswith('/home/x/.cache/treeline/compiled/')


def test_the_oldest_are_removed(tmp_path):
  for age, name in enumerate('cab'):
    (tmp_path / name).write_bytes(bytes(10))
    os.utime(tmp_path / name, (1000 + age, 1000 + age))
  compilation.prune(str(tmp_path), 25)
  assert {path.name for path in tmp_path.iterdir()} == {'a', 'b'}
  compilation.prune(str(tmp_path), 20)
  assert len(list(tmp_path.iterdir())) == 2


def test_the_variable_wins(monkeypatch):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', '/nowhere')
  try:
    compilation.keep()
    assert jax.config.jax_compilation_cache_dir == '/nowhere'
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


@pytest.mark.parametrize('arguments', [[], ['--nocompilation_cache']])
def test_programs_are_kept_by_default(arguments, monkeypatch, tmp_path):
  """Every command that joins has the flag that turns this off."""
  values, changed = flags.FlagValues(), {}
  for name in ('DEFINE_string', 'DEFINE_integer', 'DEFINE_bool'):
    define = functools.partial(getattr(flags, name), flag_values=values)
    monkeypatch.setattr(flags, name, define)
  monkeypatch.setattr(flags, 'FLAGS', values)
  config = types.SimpleNamespace(
    jax_compilation_cache_dir=None, update=changed.__setitem__
  )
  monkeypatch.setattr(compilation, 'jax', types.SimpleNamespace(config=config))
  monkeypatch.setattr(compilation, 'default_folder', lambda: str(tmp_path))
  processes.define_flags()
  values(['command', *arguments])
  processes.join()
  if arguments:
    assert changed == {'jax_enable_compilation_cache': False}
  else:
    assert changed.get('jax_compilation_cache_dir') == str(tmp_path)


def test_a_default_that_the_compiler_does_not_know(capsys):
  """It is left out, with a warning; the config's own options never are."""
  sizes = dict.fromkeys(sharding.AXES, 1) | {'data': 8}
  place = NamedSharding(make_mesh(sizes, 'auto'), PartitionSpec())
  state = {'x': jax.ShapeDtypeStruct((8,), 'float32', sharding=place)}

  def compiled(options, defaults):
    def step(state, batch):
      return state, {'sum': state['x'].sum()}

    return compile_train_step(step, state, {}, options, defaults)

  known = compilation.options(['xla_cpu_enable_fast_min_max=true'], 'cpu')
  compiled({}, {'xla_tpu_no_such_option': 'true'} | known)
  assert 'does not know xla_tpu_no_such_option' in capsys.readouterr().err
  compiled({}, known)
  assert not capsys.readouterr().err
  for defaults in ({}, {'xla_tpu_no_such_option': 'true'}):
    with pytest.raises(ValueError, match="'xla_tpu_no_such_option' Correct it"):
      compiled({'xla_tpu_no_such_option': 'false'}, defaults)
