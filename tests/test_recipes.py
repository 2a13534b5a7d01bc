"""Every system begins to learn by its own recipe, on the embedded corpus.

A short form of `python -m benchmarks.recipes`.
"""

import functools
import importlib

import pytest

from input_pipeline import documentation, tokenizing
from input_pipeline.config import DataConfig
from tests import runs
from tests.test_families import SYSTEMS
from train.loop import train

STEPS = 10
DOCUMENTS = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def documents():
  return documentation.documents()[:DOCUMENTS]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  """A function: config -> the path of its tokenizer, each trained once."""

  @functools.cache
  def path(data, vocab_size):
    folder = str(tmp_path_factory.mktemp('tokenizer'))
    tokenizing.prepare(data, 0, vocab_size, folder)
    return tokenizing.path_in(folder, data)

  def of(config):
    kind = ('sentinels', 'tokenizer_kind', 'lowercase')
    kind = {key: config.data[key] for key in kind}
    # What a tokenizer needs to know of the objective: whether it masks.
    other = 'mlm' if DataConfig(**config.data).masks else 'deshuffling'
    values = {'objective': other, 'holdout': config.data.holdout, **kind}
    if other == 'mlm':
      values |= {'noise_density': 0.15, 'predictions': 1, 'masking': 'bert'}
      values['masked_share'] = 0.8
    data = importlib.import_module('configs.common').base().data
    data.update(source='docs', batch=8, length=64, **values)
    return path(DataConfig(**data), config.model.vocab_size)

  return of


@pytest.mark.parametrize('name', SYSTEMS)
def test_the_held_out_loss_falls(
  name, documents, tokenizer, tmp_path, monkeypatch
):
  monkeypatch.setattr(documentation, 'documents', lambda: documents)
  config = importlib.import_module(f'configs.{name}').get_config('tiny')
  config.data.tokenizer = tokenizer(config)
  config.data.threads = 1
  config.train.steps = config.eval.every = STEPS
  config.checkpoint.every = config.train.log_every = STEPS
  config.eval.batches, config.eval.samples = 1, 0
  for key in ('warmup_steps', 'constant_steps'):
    if config.schedule[key]:
      config.schedule[key] = min(config.schedule[key], 2)
  train(config, str(tmp_path / 'run'))
  first, last = (loss for _, loss in runs.rows(tmp_path / 'run', 'eval/loss'))
  assert last < first - 0.05
