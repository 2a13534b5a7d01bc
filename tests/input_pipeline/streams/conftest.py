"""Three sources, a tokenizer for them, and their mixtures, opened."""

import pytest

from input_pipeline import pipeline, tokenizing
from tests.helpers.caches import CAUSAL
from tests.helpers.corpora import data_config, texts, write
from tests.helpers.mixtures import COUNTS, VOCABULARY, mixed


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  pytest.importorskip('tensorflow')
  folder = tmp_path_factory.mktemp('sources')
  for seed, (name, counts) in enumerate(COUNTS.items()):
    for file, count in enumerate(counts):
      write(folder / f'{name}{file}.json.gz', texts(count, 10 * seed + file))
  return folder


@pytest.fixture(scope='module')
def tokenizer(sources, tmp_path_factory):
  folder = tmp_path_factory.mktemp('tokenizer')
  changed = data_config(source=f'json:{sources}/*.gz')
  tokenizing.prepare(changed, 0, VOCABULARY, str(folder))
  return str(folder / 'tokenizer.model')


@pytest.fixture
def open_mixture(sources, tokenizer):
  def opened(eval_source='', **changes):
    if 'source' not in changes:
      changes = {'mixture': mixed(sources), 'source': ''} | changes
    changes = {'tokenizer': tokenizer, 'holdout': 10} | CAUSAL | changes
    return pipeline.open_data(
      data_config(**changes), 5, VOCABULARY, eval_source, family='decoder'
    )

  return opened
