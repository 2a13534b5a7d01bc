"""What input_pipeline.inspect shows of rows."""

import numpy as np
import pytest

from input_pipeline import inspect, pipeline, tokenizing
from input_pipeline.tokenizers import subwords
from tests.helpers.objectives import (
  PAIRS,
  NoSpaces,
  masked_config,
  pairs_config,
)


def first_row(settings, family):
  data = pipeline.open_data(settings, 5, 300, family=family)
  batch = next(data.batches(data.start(), np.arange(settings.batch)))
  row = {name: values[0] for name, values in batch.items()}
  rates = inspect.show_rates(
    inspect.count(batch, data.tokenizer, settings.objective)
  )
  return row, data.tokenizer, inspect.show_row(row, 0, data.tokenizer), rates


def test_inspect_marks_the_prefix():
  row, tokenizer, text, rates = first_row(pairs_config('prefix'), 'decoder')
  kept = int((row['segments'] == 1).sum() - row['weights'].sum())
  shown = ' '.join(text.split())
  words = ' '.join(map(str, row['targets'][: kept - 1].tolist()))
  assert f'inputs (prefix) 0..{kept - 1} ({kept} tokens) {words} </s>' in shown
  assert f'targets {kept}..' in shown
  assert 'of the text' in rates


@pytest.mark.parametrize('objective', PAIRS)
def test_inspect_shows_pairs(objective):
  row, tokenizer, text, rates = first_row(
    pairs_config(objective), 'encoder_decoder'
  )
  shown = ' '.join(text.split())
  for name, segments in (
    ('encoder_inputs', 'encoder_segments'),
    ('targets', 'segments'),
  ):
    here = row[name][row[segments] == 1]
    words = ' '.join(tokenizer.piece(token) for token in here)
    assert f'({len(here)} tokens) {words} ' in shown
  assert "of the inputs' places" in rates


def test_inspect_shows_masks_in_place():
  settings = masked_config('sentence_pairs')
  row, tokenizer, text, rates = first_row(settings, 'encoder')
  words = [tokenizer.piece(token) for token in row['inputs']]
  for at, target, weight in zip(
    row['predict_at'], row['targets'], row['weights'], strict=True
  ):
    if weight:
      read, token = words[at], tokenizer.piece(target)
      same = read == token
      words[at] = f'{{{token}}}' if same else f'{{{token}: {read}}}'
  shown = ' '.join(text.split())
  for kind in 0, 1:
    here = (row['types'] == kind) & (row['segments'] > 0)
    part = ' '.join(w for w, yes in zip(words, here, strict=True) if yes)
    assert part in shown
  said = ('comes next', 'is from another document')[row['is_next']]
  assert f'the second part {said}' in shown
  assert 'masked' in rates
  assert 'not next' in rates


def test_inspect_shows_rows_that_exist(tmp_path, monkeypatch, capsys):
  """The first file, and with it the first stream, holds nothing out."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: NoSpaces())
  (tmp_path / '0.json').write_text('{"text": "words"}\n')
  (tmp_path / '1.json').write_text('{"text": "words"}\n' * 2)
  source = f'json:{tmp_path}/*.json'
  settings = masked_config('causal', source=source, holdout=2)
  data = pipeline.open_data(settings, 5, 300, family='decoder')
  inspect.show_phase(data, examples=4, batches=1, evaluation=True)
  shown = capsys.readouterr().out.splitlines()
  (row,) = (line for line in shown if line.startswith('row'))
  assert 'weights sum to 6' in row


def test_inspect_ends_where_no_text_is_left(tmp_path, monkeypatch, capsys):
  """Documents of which no token is masked do not end it."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: subwords.Bytes(0, True))
  (tmp_path / '0.json').write_text('{"text": "a"}\n' * 80)
  settings = masked_config(
    'doc_sentences',
    source=f'json:{tmp_path}/*.json',
    holdout=2,
    pack=False,
    batch=1,
    streams=1,
  )
  data = pipeline.open_data(settings, 5, 300, family='encoder')
  split = data.evaluation

  def unmasked(rows, batch):
    for found in split(rows, batch):
      yield found | {'weights': np.zeros_like(found['weights'])}

  monkeypatch.setattr(data, 'evaluation', unmasked)
  inspect.show_phase(data, examples=0, batches=80, evaluation=True)
  assert '40 batches of 1 rows' in capsys.readouterr().out
  # What falls short is reported, although few chunks were made.
  inspect.show_phase(data, examples=0, batches=1, evaluation=False)
  assert '33.3% of the tokens are predicted, not' in capsys.readouterr().out
