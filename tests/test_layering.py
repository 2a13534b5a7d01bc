"""Imports point one way.

train imports models, input_pipeline and what configs/commands shares; none of
these imports train.

Every import statement of the packages is read from the source, those inside
functions too, and checked against the tables in tests/helpers/layering.py.
"""

import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY
from tests.helpers.layering import LAZILY, check


def test_imports_point_one_way():
  messages, files = check(REPOSITORY)
  assert files, f'no source found in {REPOSITORY}'
  assert not messages, '\n'.join(messages)


CLEAN = {
  'configs/common.py': 'import dataclasses\nimport ml_collections\n',
  'configs/t5.py': 'from configs import common\n',
  'models/__init__.py': '',
  'models/config.py': 'import dataclasses\n',
  'models/layers.py': 'from flax import linen as nn\nimport jax.numpy as jnp\n',
  'models/positions.py': 'from models.layers import Dense\n',
  'models/attention.py': 'from models import layers\nimport numpy as np\n',
  'models/block.py': 'from models.attention import attend\n',
  'models/families/encoder.py': 'from models import block, config\n',
  'models/families/electra.py': 'from models.families import encoder\n',
  'models/build.py': 'from models.families import electra, encoder\n',
  'input_pipeline/sources/opening.py': 'def f():\n  import tensorflow as tf\n',
  'input_pipeline/pipeline.py': 'def f():\n  import pyarrow\n',
  'input_pipeline/inspect.py': 'from configs.commands import command\n',
  'train/loop.py': 'import optax\nfrom models import build\n'
  'from input_pipeline import pipeline\n',
  'tests/test_x.py': 'import pytest\nimport torch\nfrom train import loop\n',
}


def write(root, files):
  for name, source in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding='utf-8')


def test_checker_accepts_the_allowed_directions(tmp_path):
  write(tmp_path, CLEAN)
  assert check(tmp_path) == ([], len(CLEAN))


@pytest.mark.parametrize(
  ('name', 'source', 'message'),
  [
    ('configs/bad.py', 'import jax', 'configs/bad.py:1: imports jax'),
    ('configs/bad.py', 'import models', 'configs must not use models'),
    ('models/masks.py', 'import optax', 'imports optax'),
    (
      'models/masks.py',
      'def f():\n  import optax',
      'masks.py:2: imports optax',
    ),
    ('models/masks.py', 'import train.step', 'models must not use train'),
    ('models/masks.py', 'from models import block', 'imports models.block'),
    ('models/masks.py', 'from models.block import B', 'imports models.block'),
    ('models/masks.py', 'from models import positions', 'not below it'),
    ('models/masks.py', 'import models.build', 'imports models.build'),
    ('models/masks.py', 'from . import config', 'relative import'),
    (
      'models/layers.py',
      'from models.families import encoder',
      'families.encoder',
    ),
    ('models/families/encoder.py', 'from models import build', 'models.build'),
    ('models/shiny.py', '', 'models/shiny.py: has no place in ORDER'),
    ('train/shiny.py', '', 'train/shiny.py: has no place in ORDER'),
    (
      'input_pipeline/tokenizers/kinds.py',
      'from input_pipeline.sources import opening',
      'imports input_pipeline.sources.opening, which is not below it',
    ),
    ('train/settings.py', 'from train import loop', 'imports train.loop'),
    ('configs/common.py', 'from configs import t5', 'imports configs.t5'),
    ('models/masks.py', '__import__("torch")', 'imports torch'),
    (
      'models/pretrained/layouts/bert.py',
      'import runpy\nrunpy.run_module("train.loop")',
      'models must not use train',
    ),
    (
      'models/pretrained/layouts/bert.py',
      'import safetensors',
      'not a dependency',
    ),
    ('train/settings.py', 'import torch', 'imports torch'),
    (
      'train/settings.py',
      'def f():\n  import tensorflow',
      'imports tensorflow',
    ),
    ('train/settings.py', 'import configs.t5', 'train must not use configs'),
    ('train/settings.py', 'from configs import t5', 'must not use configs'),
    ('input_pipeline/config.py', 'import tensorflow', 'outside a function'),
    ('input_pipeline/config.py', 'import tensorflow_datasets', 'outside a'),
    (
      'input_pipeline/config.py',
      'class A:\n  try:\n    import tensorflow as tf\n  except OSError: ...',
      'config.py:3: imports tensorflow outside a function',
    ),
    (
      'input_pipeline/config.py',
      'def f(x=__import__("tensorflow")): ...',
      'outside a function',
    ),
    ('input_pipeline/config.py', 'def f():\n  import jax', 'imports jax'),
    ('input_pipeline/config.py', 'import absl.app', 'imports absl.app'),
    ('input_pipeline/config.py', 'from models import config', 'must not use'),
    ('input_pipeline/pipeline.py', 'import pyarrow', 'outside a function'),
    ('tests/test_bad.py', 'import tensorflow', 'outside a function'),
    ('tests/test_bad.py', 'import pandas', 'imports pandas'),
  ],
)
def test_checker_reports_a_back_edge(tmp_path, name, source, message):
  write(tmp_path, CLEAN | {name: source})
  messages, _ = check(tmp_path)
  messages = [m for m in messages if 'circle' not in m]  # it may close one too
  assert len(messages) == 1, messages
  assert message in messages[0]


def test_checker_reports_a_circle(tmp_path):
  files = {
    f'train/runs/{a}.py': f'def f():\n  from train.runs import {b}\n'
    for a, b in (('one', 'two'), ('two', 'three'), ('three', 'one'))
  }
  write(tmp_path, CLEAN | files)
  (message,) = check(tmp_path)[0]
  assert message.startswith('a circle of imports among train.runs.one, ')
  assert message.count('train.runs.') == 3


def test_imports_without_tensorflow():
  """Every module of train, models and input_pipeline imports without it.

  Only what reads published checkpoints needs the extra `pretrained` as well.
  What needs `lm_eval` is left out: it looks for TensorFlow.
  """
  lm_eval = 'train.evaluation.harness', 'train.evaluation.harness_tasks'
  modules = [
    path.relative_to(REPOSITORY).with_suffix('').as_posix().replace('/', '.')
    for package in ('models', 'input_pipeline', 'train')
    for path in sorted((REPOSITORY / package).rglob('*.py'))
    if path.stem not in ('__init__', '__main__')
  ]
  extra = (
    *('models.pretrained.', 'train.adopting', 'train.peft_files'),
    *('train.pretrained', 'train.special_tokens'),
  )
  modules = [name for name in modules if name not in lm_eval]
  base = [name for name in modules if not name.startswith(extra)]
  program = f"""
import importlib, sys
from absl import flags
absent = {LAZILY!r} | {{'safetensors'}}
class Absent:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in absent:
      raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
before = set(flags.FLAGS)
for module in {base!r} + [{extra!r}] + {modules!r}:
  if module == {extra!r}:
    absent.remove('safetensors')
    continue
  importlib.import_module(module)
  for name in set(flags.FLAGS) - before:  # each program has its own flags
    delattr(flags.FLAGS, name)
"""
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=REPOSITORY,
    env={'PATH': '', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
