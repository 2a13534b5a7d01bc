"""Systems begin to learn by their own recipes, on the embedded corpus.

A short form of `python -m benchmarks.recipes`: fewer steps, of one system for
each objective and kind of tokenizer.
"""

import importlib

import pytest

from input_pipeline.sources import documentation
from tests.helpers import runs
from train.loop import train

SYSTEMS = ('bert', 'roberta', 'llama', 'ul2')
STEPS = 10
DOCUMENTS = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def documents():
  return documentation.documents()[:DOCUMENTS]


@pytest.mark.parametrize('name', SYSTEMS)
def test_the_held_out_loss_falls(name, documents, tmp_path, monkeypatch):
  monkeypatch.setattr(documentation, 'documents', lambda: documents)
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  config.data.threads = 1
  config.data.batch = 8
  config.train.steps = config.eval.every = STEPS
  config.train.phases = ()
  config.checkpoint.every = config.train.log_every = STEPS
  config.eval.batches, config.eval.samples = 1, 0
  for key in ('warmup_steps', 'constant_steps'):
    if config.schedule[key]:
      config.schedule[key] = min(config.schedule[key], 2)
  train(config, str(tmp_path / 'run'))
  first, last = (loss for _, loss in runs.rows(tmp_path / 'run', 'eval/loss'))
  assert last < first - 0.05
