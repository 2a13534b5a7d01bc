"""Texts and a short run, for tests of several files."""

import shutil

import pytest

from configs import palm, t5
from tests.helpers import runs
from tests.helpers.runs import STEPS
from tests.helpers.warm_starts import BYTES, PALM, config_of, new_run
from train import loop


@pytest.fixture(scope='session')
def texts(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'text'
  runs.write_text(folder)
  return folder


@pytest.fixture(scope='session')
def source(texts):
  return f'text:{texts}/*.txt'


@pytest.fixture(scope='session')
def finished(tmp_path_factory, source):
  """The workdir of a run of 4 steps."""
  folder = tmp_path_factory.mktemp('finished') / 'run'
  changes = {'data.source': source}
  changes |= {key.replace('__', '.'): value for key, value in STEPS.items()}
  config = t5.get_config('tiny').unlock()
  config.update_from_flattened_dict(runs.CONFIG | runs.SYSTEMS['t5'] | changes)
  loop.train(config.lock(), str(folder))
  return folder


@pytest.fixture
def half(finished, tmp_path):
  """A copy of that run at step 2."""
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  shutil.rmtree(folder / 'checkpoints' / '4')
  return folder


@pytest.fixture(scope='module')
def language_model(tmp_path_factory, source):
  """A tiny PaLM at step 3: its workdir, config and state."""
  folder = tmp_path_factory.mktemp('palm') / 'run'
  config = config_of(palm, 'tiny', BYTES, PALM, {'data.source': source})
  return folder, config, new_run(folder, config, 3)
