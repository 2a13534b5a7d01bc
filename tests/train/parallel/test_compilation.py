"""What the compiler is asked for; compiled programs are kept and reused."""

import functools
import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from tests.helpers import REPOSITORY
from train.evaluation import likelihoods
from train.evaluation.held_out import make_eval_step
from train.generation import programs
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


FAST = 'xla_cpu_enable_fast_min_max'  # the CPU's compiler knows it


@pytest.fixture
def place(monkeypatch):
  """A mesh whose programs ask for FAST and for what no compiler knows."""
  asked = compilation.options([f'{FAST}=true'], 'cpu')
  monkeypatch.setattr(
    compilation, 'DEFAULTS', {'cpu': {'xla_tpu_no_such_option': '1'} | asked}
  )
  compilation.known.cache_clear()
  sizes = dict.fromkeys(sharding.AXES, 1) | {'data': 8}
  yield NamedSharding(make_mesh(sizes, 'auto'), PartitionSpec())
  compilation.known.cache_clear()


def test_a_default_that_the_compiler_does_not_know(place, capsys):
  """It is left out, with one warning, of all programs of the mesh."""
  assert compilation.known(place.mesh) == {FAST: True}
  assert 'does not know xla_tpu_no_such_option' in capsys.readouterr().err
  run = compilation.jit(lambda x: x + 1, place.mesh)
  assert run(np.float32(1)) == 2
  assert not capsys.readouterr().err
  assert not compilation.DEFAULTS['cpu'].keys() <= {FAST}


def test_the_options_of_the_config_come_first(place, monkeypatch):
  state = {'x': jax.ShapeDtypeStruct((8,), 'float32', sharding=place)}

  def step(state, batch):
    return state, {'sum': state['x'].sum()}

  compile_train_step(step, state, {})
  with pytest.raises(ValueError, match="'xla_tpu_no_such_option' Correct it"):
    compile_train_step(step, state, {}, {'xla_tpu_no_such_option': 'false'})
  seen = []
  monkeypatch.setattr(
    jax.stages.Lowered, 'compile', lambda self, options: seen.append(options)
  )
  compile_train_step(step, state, {}, {FAST: False, 'xla_a': '2'})
  assert seen == [{FAST: False, 'xla_a': '2'}]


def test_every_program_that_runs_a_model_on_a_mesh(place, monkeypatch):
  """It asks for the options of its mesh: evaluation, decoding, scoring."""
  seen, jit = [], jax.jit

  def spy(function, *args, compiler_options=None, **how):
    seen.append(compiler_options)
    return jit(function, *args, compiler_options=compiler_options, **how)

  compilation.known(place.mesh)
  monkeypatch.setattr(jax, 'jit', spy)
  fixed = programs.Fixed('a model', 1, 0, 8, place.mesh)
  programs.stepwise(fixed, 'how')
  programs.searching(fixed, 2, 0.6)
  model = types.SimpleNamespace(clone=dict)
  likelihoods._program.__wrapped__(fixed._replace(model=model))
  data = types.SimpleNamespace(config=types.SimpleNamespace(objective='mlm'))
  make_eval_step('a model', data, mesh=place.mesh)
  assert seen == [{FAST: True}] * 5  # two of them of `stepwise`
