"""Further held-out sets, eval.sources, beside any data."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from input_pipeline.pipeline import open_data
from tests.helpers.corpora import data_config
from train.evaluation.held_out import open_sources

KEYS = {
  'objective': 'text_to_text', 'source': '', 'tokenizer_kind': 'bytes',
  'noise_density': 0.0, 'mean_span_length': 0.0, 'sentinels': 0,
  'document_tokens': 0, 'holdout': 0, 'length': 128, 'batch': 8,
  'streams': 2, 'block': 64, 'threads': 1,
}  # fmt: skip
MIXTURE = (('task:flan/words/last', 0), ('task:flan/words/first', 0))


@pytest.mark.parametrize(
  'beside',
  [
    {'rates': 'examples', 'rate_cap': 100, 'rate_temperature': 2.0},
    {'rates': 'equal'},
    # More documents than the held-out set has.
    {'rates': 'equal', 'documents': 1000},
  ],
)
def test_a_source_is_read_alone(beside):
  """Keys of the run's mixture say nothing of it; those of words still do."""
  words = {'option_share': 0.5, 'shots': 2, 'shot_share': 0.5}
  name = 'task:flan/numbers/even@validation'
  read = []
  for more in {'mixture': MIXTURE, **beside}, {'source': name}:
    config = data_config(**KEYS | words | more)
    data = open_data(config, 0, 300, name, None, family='decoder')
    if data.config.mixture:
      keys = {'eval': {'sources': (('even', name),)}}
      keys = ConfigDict(keys | {'model': {'vocab_size': 300}})
      data = open_sources(keys, data, None)['even']
    read.append(next(data.evaluation(np.arange(8), 8))['targets'])
  np.testing.assert_array_equal(*read)


def test_a_task_without_words_beside_tasks_in_words(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"instruction": "Say it.", "output": "It."}\n' * 8)
  config = data_config(**KEYS, mixture=MIXTURE, rates='equal', option_share=0.5)
  data = open_data(config, 0, 300, '', None, family='decoder')
  keys = {'eval': {'sources': (('own', f'task:instructions:{path}'),)}}
  keys = ConfigDict(keys | {'model': {'vocab_size': 300}})
  [found] = open_sources(keys, data, None).values()
  assert next(found.evaluation(np.arange(8), 8))['weights'].any()
