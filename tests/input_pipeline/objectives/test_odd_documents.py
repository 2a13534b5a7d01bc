"""Odd documents, and sources without rows, in every objective."""

import json

import numpy as np
import pytest

from input_pipeline import pipeline, tokenizing
from tests.helpers.objectives import (
  PAIRS,
  NoSpaces,
  masked_config,
  pairs_config,
)

ODD = [
  'word',
  'x ' * 500_000,
  'y' * 1_000_000,
  '',
  '\0\0\0',
  ' \n ',
  'One. Two.',
]


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
  folder = tmp_path_factory.mktemp('odd')
  lines = [json.dumps({'text': text}) for text in ODD]
  (folder / 'a.json').write_text('\n'.join([*lines, '{"text": 5}']))
  return f'json:{folder}/a.json'


@pytest.mark.parametrize(
  ('objective', 'family'),
  [
    ('causal', 'decoder'),
    ('prefix', 'decoder'),
    ('span_corruption', 'encoder_decoder'),
    ('ul2', 'encoder_decoder'),
    ('mlm', 'encoder'),
    ('sentence_pairs', 'encoder'),
    ('full_sentences', 'encoder'),
  ],
)
def test_odd_documents(odd, objective, family, monkeypatch, capsys):
  """Each document is read, or skipped, counted and reported; none is lost."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: NoSpaces())
  make = pairs_config if objective in PAIRS else masked_config
  settings = make(objective, source=odd, max_bad_share=0.01, holdout=0)
  if objective in ('span_corruption', 'ul2'):
    settings = make(
      objective, source=odd, max_bad_share=0.01, holdout=0, sentinels=20,
      document_tokens=0 if objective == 'ul2' else 2_000_000,
    )  # fmt: skip
  data = pipeline.open_data(settings, 5, 300, odd, family=family)
  total = 0
  for batch in data.evaluation(np.arange(16), 16):
    if not batch['weights'].any():
      break
    total += int((batch['targets'] > 32).sum())
  if objective == 'causal':
    assert total == sum(len(t.replace(' ', '').strip('\0\n')) for t in ODD)
  assert data.report() == {'documents': 8, 'skipped': 4}
  said = capsys.readouterr().out
  for line, reason in ((4, 'no text'), (5, 'no token'), (6, 'no token')):
    assert f'line {line}' in said
    assert reason in said


@pytest.mark.parametrize('objective', ['causal', 'sentence_pairs'])
def test_a_source_without_rows(objective, tmp_path, monkeypatch):
  """The source is refused, instead of being read for ever."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: NoSpaces())
  (tmp_path / 'a.json').write_text('{"text": " "}')
  (tmp_path / 'b.json').write_text('{"text": "words"}')
  source = f'json:{tmp_path}/a.json'
  settings = masked_config(objective, source=source, max_bad_share=1.0)
  family = 'decoder' if objective == 'causal' else 'encoder'
  other = f'json:{tmp_path}/b.json'
  data = pipeline.open_data(settings, 5, 300, other, family=family)
  with pytest.raises(ValueError, match='data.source=.* no row in .* epochs'):
    next(data.batches(data.start(), np.arange(16)))
