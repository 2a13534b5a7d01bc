"""benchmarks/accelerator.py on a CPU, as on a machine with few packages."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from benchmarks import accelerator_models, kernel_times
from benchmarks import accelerator_report as report
from models.build import build
from models.config import TransformerConfig
from models.kernels.choice import choose
from tests.helpers import REPOSITORY
from train.learning.state import abstract_params, count_params

# Python runs this at its start: as if these were not installed.
BARE = """
import importlib.machinery, sys
MISSING = {
  'isal', 'matplotlib', 'orjson', 'sentencepiece', 'tensorboardX', 'tensorflow',
  'tensorflow_datasets', 'array_record', 'pyarrow',
}
class Finder(importlib.machinery.PathFinder):
  @classmethod
  def find_spec(cls, name, path=None, target=None):
    if name.partition('.')[0] not in MISSING:
      return super().find_spec(name, path, target)
at = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[at] = Finder
"""


def run(folder, only, *flags, platform='cpu'):
  """What was printed, and the rows by name."""
  (folder / 'sitecustomize.py').write_text(BARE)
  one_device = {k: x for k, x in os.environ.items() if k != 'XLA_FLAGS'}
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.accelerator', '--tiny'),
      *(f'--out={folder}/out.json', f'--only={only}', '--minutes=25', *flags),
    ],
    cwd=REPOSITORY,
    env=one_device | {'JAX_PLATFORMS': platform, 'PYTHONPATH': str(folder)},
    capture_output=True, text=True, timeout=1600, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads((folder / 'out.json').read_text())
  assert {'jax', 'torch'} <= found['versions'].keys()
  return done.stdout, found


def test_a_step_on_a_bare_machine(tmp_path):
  text, found = run(tmp_path, 'gpt2 flash attention')
  (row,) = found['rows'].values()
  assert row['ms'] > 0
  assert row['peak_gib'] > 0
  assert 'tensorboardX' in row['stand_ins']
  assert row['attention'].startswith('xla: there is a kernel for')
  assert f'| gpt2 | - | {row["ms"]:.0f} ms, ' in text
  assert not found['did_not_fit']


@pytest.mark.slow
def test_rows_that_fail_and_those_that_did_not_fit(tmp_path):
  """Without a platform Treeline's rows fail, and torch's do not."""
  text, found = run(tmp_path, 'gpt2 flash none,gpt2 sdpa', platform='nothing')
  assert found['rows']['gpt2 torch sdpa']['ms'] > 0
  assert 'nothing' in found['rows']['gpt2 treeline flash none scanned']['error']
  text, found = run(
    tmp_path, 'bert flash,t5_3b', '--minutes=0.001', platform='nothing'
  )
  assert 'Did not fit into 0.001 minutes: bert treeline flash none' in text
  assert 'gpt2 torch sdpa' in found['rows']  # of the run before


@pytest.mark.slow
def test_all_kinds_of_rows(tmp_path):
  """A model on both sides, whose first losses agree; decoding; the loop."""
  only = 't5 flash dots scanned', 't5 sdpa', 'decode treeline', 'loop'
  text, found = run(tmp_path, ','.join(only), '--profile')
  rows = found['rows']
  assert not [name for name, row in rows.items() if 'error' in row]
  for name, row in rows.items():
    assert row.get('kernels', True), name
    if 'treeline' in row and row['what'] == 'step':
      assert len(row['kernels']) == kernel_times.TOP
  assert 'The first losses of' not in text
  assert rows['decode treeline']['tokens_per_second'] > 0
  assert rows['loop treeline']['loop_over_bare_step'] > 0


# Millions, as the models' names have them.
PARAMETERS = {
  'llama': 1104,
  'gpt2': 774,
  't5': 783,
  't5_3b': 2850,
  'rwkv': 430,
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_sizes(name):
  """The parameters are those that the names promise."""
  config = accelerator_models.make_config(name, tiny=False)
  model = build(TransformerConfig(**config.model))
  count = count_params(abstract_params(model)[0])
  assert round(count / 1e6) == PARAMETERS[name]


@pytest.mark.parametrize('name', ['bert', 'gpt2'])
def test_dropout_has_a_kernel_of_its_own(name):
  """The papers' rate, for which a GPU gets Triton's kernel, not cuDNN's."""
  found = []
  for model in name, f'{name}_dropout':
    config = accelerator_models.make_config(model, tiny=False).model
    chosen, _ = choose(TransformerConfig(**config), 'gpu', '9.0', packed=False)
    found.append((config.dropout, config.attention_dropout, chosen))
  assert found == [(0.0, 0.0, 'cudnn_unpacked'), (0.1, 0.1, 'triton')]


def test_kernels_of_a_gpu_and_of_a_tpu():
  """Streams of a GPU and 'XLA Ops' of a TPU count, and nothing else."""

  def event(name, duration, **stats):
    return SimpleNamespace(name=name, duration_ns=duration, stats=stats.items())

  def plane(name, **lines):
    lines = [SimpleNamespace(name=n, events=e) for n, e in lines.items()]
    return SimpleNamespace(name=name, lines=lines)

  host = plane('/host:CPU', thread=[event('call', 9e9, hlo_op='dot.1')])
  gpu = plane(
    '/device:GPU:0',
    **{
      'Stream #1(Compute)': [event('gemm', 6e9), event('fmha', 3e9)],
      'Stream #2(Memcpy)': [event('gemm', 3e9)],
      'XLA Modules': [event('jit_train_step', 12e9)],
    },
  )
  tpu = plane(
    '/device:TPU:0',
    **{'XLA Ops': [event('fusion.1', 2e9)], 'Steps': [event('0', 9e9)]},
  )

  def seconds(*planes):
    return dict(kernel_times.seconds(SimpleNamespace(planes=planes)))

  assert seconds(host, gpu) == {'gemm': 9.0, 'fmha': 3.0}
  assert seconds(host, tpu) == {'fusion.1': 2.0}
  assert seconds(host) == {'dot.1': 9.0}
  assert kernel_times.largest(kernel_times.seconds(
    SimpleNamespace(planes=[gpu])
  )) == [[3000.0, 0.75, 'gemm'], [1000.0, 0.25, 'fmha']]  # fmt: skip


def test_kernels_of_a_cpu():
  x = jnp.ones((256, 256))
  product = jax.jit(lambda x: jnp.tanh(x @ x))
  done = product(x)

  def step():
    nonlocal done
    done = product(x)

  found = kernel_times.of_jax(step, lambda: jax.block_until_ready(done))
  assert found[0][0] > 0
  assert sum(share for _, share, _ in found) == pytest.approx(1)


ROW = {'device': 'NVIDIA H100 80GB HBM3', 'peak_gib': 20.0}


def test_the_table_has_the_fastest_of_each_side():
  measured = {
    'llama treeline xla full scanned': ROW | {'ms': 568.0},
    'llama treeline flash none scanned': ROW | {'ms': 268.0},
    'llama treeline flash dots scanned': ROW | {'ms': 237.0},
    'llama treeline flash dots scanned packed': ROW | {'ms': 200.0},
    'llama torch sdpa': ROW | {'ms': 329.0},
    'llama torch compiled': ROW | {'ms': 265.0},
    'gpt2 torch compiled': {'error': 'OutOfMemoryError'},
  }
  rows = {
    name: report.rated(name.split()[0], False, row)
    for name, row in measured.items()
  }
  (row,) = report.table(rows).splitlines()[2:]
  # MFU and ratio as in one measurement by hand on an H100.
  assert row == (
    '| llama | 568 ms, 20.5%, 20.0 GiB (full scanned) '
    '| 237 ms, 49.2%, 20.0 GiB (dots scanned) '
    '| 329 ms, 35.4%, 20.0 GiB | 265 ms, 44.0%, 20.0 GiB | 1.12 |'
  )


def test_losses_that_differ_are_reported():
  rows = {
    'bert treeline xla none scanned': {'first_loss': 10.40},
    'bert treeline flash none scanned': {'first_loss': 10.41},
    'bert torch sdpa': {'first_loss': 10.90},
  }
  assert not report.disagreeing(rows)
  for loss in (10.9, float('nan')):
    rows['bert treeline flash dots scanned'] = {'first_loss': loss}
    (doubt,) = report.disagreeing(rows)
    assert doubt.startswith('The first losses of bert differ')
