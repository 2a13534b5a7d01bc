"""Every task's metric takes the task's own fields."""

import pytest

from input_pipeline.tasks import catalog


@pytest.mark.parametrize(
  ('name', 'example', 'prediction'),
  [
    ('wmt/en_de', {'en': 'a b c d', 'de': 'e f g h'}, 'e f g h'),
    ('wmt/ro_en', {'en': 'a b c d', 'ro': 'e f g h'}, 'a b c d'),
    ('xsum', {'document': 'x', 'summary': 'a b'}, 'a b'),
    ('cnn_dailymail', {'article': 'x', 'highlights': 'a b'}, 'a b'),
    ('squad/v1.1', {'answers': {'text': ['a b']}}, 'the a b.'),
    ('conll2003', {'ner': ['B-PER', 'O']}, ['B-PER', 'O']),
    ('glue/sst2', {'label': 'positive'}, 'positive'),
  ],
)
def test_a_right_prediction_is_100_percent(name, example, prediction):
  scores = catalog.find(name).metrics([example], [prediction])
  assert scores
  assert list(scores.values()) == pytest.approx([100] * len(scores))
