"""An installed wheel works outside the checkout, with configs found by name."""

import os
import shutil
import site
import subprocess
import sys
import venv

import pytest

from tests.helpers import REPOSITORY

PACKAGES = ('configs', 'input_pipeline', 'models', 'train')
BUILD = """
import sys
from setuptools import build_meta
print(build_meta.build_wheel(sys.argv[1]))
"""


@pytest.fixture(scope='module')
def python(tmp_path_factory):
  """The Python of an environment with the wheel, and with our libraries."""
  pytest.importorskip('setuptools', '77')
  folder = tmp_path_factory.mktemp('wheel')
  source = folder / 'source'
  for name in PACKAGES:  # a copy, since building writes beside the source
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
  for name in ('pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(REPOSITORY / name, source)
  run(sys.executable, '-c', BUILD, folder, cwd=source)
  (wheel,) = folder.glob('*.whl')
  venv.create(folder / 'venv', with_pip=False)
  python = folder / 'venv' / 'bin' / 'python'
  run(
    sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps',
    '--no-index', '--quiet', '--disable-pip-version-check', wheel, cwd=folder,
  )  # fmt: skip
  # The libraries of the environment that runs the tests, without what a .pth
  # file there adds: an editable installation of the checkout.
  (installed,) = folder.glob('venv/lib/*/site-packages')
  (installed / 'libraries.pth').write_text('\n'.join(site.getsitepackages()))
  return python


def run(*command, cwd):
  """The output of a command that must succeed."""
  clean = {k: x for k, x in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    [*map(str, command)],
    cwd=cwd,
    env=clean | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_the_wheel_has_every_module(python, tmp_path):
  code = 'import configs; print(configs.__path__[0])'
  installed = os.path.dirname(run(python, '-c', code, cwd=tmp_path).strip())
  assert installed.startswith(str(python.parents[1]))
  for package in PACKAGES:
    for path in (REPOSITORY / package).rglob('*.py'):
      module = path.relative_to(REPOSITORY)
      assert os.path.exists(os.path.join(installed, module)), module


def test_a_packaged_config_is_found_by_name(python, tmp_path):
  shown = run(
    python, '-m', 'input_pipeline.inspect', '--config=t5.py:tiny',
    '--config.data.source=synthetic', '--batches=1', cwd=tmp_path,
  )  # fmt: skip
  assert '1 batches of 32 rows' in shown
  shown = run(python, '-m', 'train', '--config=t5:tiny', '--help', cwd=tmp_path)
  assert shown.startswith('`python -m train --config=')
  assert "  data.source='docs'  " in shown
