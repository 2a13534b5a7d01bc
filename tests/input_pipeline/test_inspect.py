"""What input_pipeline.inspect shows of rows."""

import re

import numpy as np
import pytest

from configs.finetune import bert
from input_pipeline import inspect, pipeline, tokenizing
from input_pipeline.tokenizers import subwords
from input_pipeline.tokenizers.numbers import Numbers
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


TABLE = 'a\tb\tlabel\n' + ''.join(
  f'word {n} good\tother {n}\t{"yes" if n % 2 else "no"}\n' for n in range(40)
)


def test_a_task_is_shown_without_what_its_record_decides(tmp_path, capsys):
  """A recipe leaves objective, length and choices to the task."""
  for name in 'train', 'dev':
    (tmp_path / f'{name}.tsv').write_text(TABLE)
  config = bert.get_config('size=tiny').copy_and_resolve_references().unlock()
  config.data.source = (
    f'task:tsv:{tmp_path}/train.tsv,validation={tmp_path}/dev.tsv,text=a,'
    'text2=b,length=32'
  )
  words = 'word', 'good', 'other', *map(str, range(40))
  vocabulary = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *words
  (tmp_path / 'vocab.txt').write_text('\n'.join(vocabulary))
  config.data.tokenizer = str(tmp_path / 'vocab.txt')
  config.model.vocab_size, config.data.batch = 48, 4
  inspect.show(config.lock(), None, 1, 2, False)
  shown = capsys.readouterr().out
  words = re.search(r'type 0 .*\n +\[CLS\] word (\d+) good \[SEP\]', shown)
  assert f'label {"yes" if int(words[1]) % 2 else "no"}' in shown
  assert re.search(rf'type 1 .*\n +other {words[1]} \[SEP\]', shown)
  assert '2 batches of 4 rows' in shown


def test_labels_of_words_and_spans():
  row = {
    'inputs': np.array([3, 9, 8, 7, 0]),
    'types': np.array([0, 0, 1, 1, 0]),
    'segments': np.array([1, 1, 1, 1, 0]),
    'cursor': np.zeros(4, 'int32'),
    'weights': np.array([0, 1, 0, 1, 0]),
    'labels': np.array([0, 1, 0, 0, 0]),
  }
  numbers = Numbers(100, 0)
  text = inspect.show_row(row, 0, numbers, ('O', 'PER'))
  assert 'labels 9:PER 7:O' in text
  del row['labels']
  row |= {'start': np.array(2), 'end': np.array(3), 'weights': np.array(1.0)}
  assert 'answer 2..3: 8 7' in inspect.show_row(row, 0, numbers)
