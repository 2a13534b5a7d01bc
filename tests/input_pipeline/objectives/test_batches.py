"""Whole batches of decoders and encoders; keys and sizes that do not fit."""

import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.objectives import features
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.sources import opening, synthetic
from input_pipeline.streams import corpus
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config
from tests.helpers.objectives import masked_config


def test_long_sentences_of_pairs_stay_whole():
  """A sentence is cut only if a pair has no room for it."""
  config = masked_config('sentence_pairs', length=128, predictions=20)
  tokenizer = Numbers(300, 0, specials=True)
  shapes = batch_shapes(config, 'encoder')
  document = [np.full(100, 7, np.int32), np.full(10, 8, np.int32)]
  for seed in range(20):
    rows = make_rows(
      [document], tokenizer, config, shapes, np.random.default_rng(seed),
      'encoder',
    )  # fmt: skip
    batch = features.split(rows, shapes)
    following = batch['is_next'] == 0
    lengths = batch['segments'][following].sum(axis=1)
    seconds = batch['types'][following].sum(axis=1)
    if len(lengths) and lengths[0] == 113:
      assert seconds[0] == 11
      return
  raise AssertionError('No seed gave the pair of the two sentences.')


def take(config, family, count=4):
  data = pipeline.open_data(config, 5, 300, family=family)
  batches = data.batches(data.start(), np.arange(config.batch))
  batches = [next(batches) for _ in range(count)]
  for batch in batches:
    assert {n: (x.shape[1:], x.dtype) for n, x in batch.items()} == data.shapes
  return data, {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('family', ['decoder', 'rwkv'])
def test_batches_of_decoders(family, concatenate):
  config = masked_config('causal', concatenate=concatenate)
  data, rows = take(config, family, count=16)
  read = rows['segments'] > 0
  assert (rows['targets'][read] > 0).all()
  assert (rows['weights'] == read).all()
  # Each token but a segment's last is the next one's input.
  same = rows['segments'][:, 1:] == rows['segments'][:, :-1]
  same &= read[:, 1:]
  np.testing.assert_array_equal(
    rows['inputs'][:, 1:][same], rows['targets'][:, :-1][same]
  )
  assert not rows['inputs'][rows['positions'] == 0].any()
  ends = rows['targets'] == data.tokenizer.eos
  assert ends.any()
  if not concatenate:  # no token of a document comes after its end
    inside = ends[:, :-1] & same
    assert not inside.any()
    assert rows['segments'].max() > 1


@pytest.mark.parametrize(
  ('objective', 'rule'),
  [
    ('mlm', 'bert'),
    ('mlm', 'electra'),
    ('sentence_pairs', 'bert'),
    ('full_sentences', 'roberta'),
    ('doc_sentences', 'roberta'),
  ],
)
def test_batches_of_encoders(objective, rule):
  shares = (0.85, 0.0) if rule == 'electra' else (0.8, 0.1)
  config = masked_config(
    objective, masking=rule, masked_share=shares[0], random_share=shares[1],
    concatenate=False,
  )  # fmt: skip
  family = 'electra' if rule == 'electra' else 'encoder'
  data, rows = take(config, family, 20)
  tokenizer = data.tokenizer
  special = [tokenizer.cls, tokenizer.sep, tokenizer.mask]
  assert len({*special, tokenizer.pad, tokenizer.eos, tokenizer.unk}) == 6
  chosen = rows['weights'] > 0
  read = rows['segments'] > 0
  exact = read.sum(1) * 0.15
  if rule == 'roberta':
    assert (chosen.sum(1) >= np.floor(exact)).all()
    assert (chosen.sum(1) <= np.minimum(np.floor(exact + 1), 9)).all()
  else:
    counts = np.clip(np.rint(exact), 1, 9)
    np.testing.assert_array_equal(chosen.sum(1), counts)
  assert not rows['targets'][~chosen].any()
  text, shown = restored(rows)
  assert (text[:, 0] == tokenizer.cls).all()
  assert not (text == tokenizer.mask).any()
  targets = rows['targets'][chosen]
  ends = np.isin(targets, special)
  if rule == 'roberta':  # predicts them as any other token
    share = np.isin(text[read], special).mean()
    spread = 4 * (share * (1 - share) / len(ends)) ** 0.5 + 0.01
    assert ends.mean() == pytest.approx(share, abs=spread)
    drawn = shown[shown != targets]
    assert not np.isin(drawn, [*special[:2], *range(3)]).any()
  else:
    assert not ends.any()
  for found, share in (
    (shown == tokenizer.mask, shares[0]),
    (shown == rows['targets'][chosen], 1 - sum(shares)),
  ):
    spread = 4 * (share * (1 - share) / len(shown)) ** 0.5 + 1 / 256
    assert found.mean() == pytest.approx(share, abs=spread)
  row, _ = np.nonzero(chosen)
  places = zip(row, rows['predict_at'][chosen], strict=True)
  distinct = len(set(places)) / len(row)
  assert distinct < 0.99 if rule == 'electra' else distinct == 1

  separators = (text == tokenizer.sep).sum(1)
  if objective == 'sentence_pairs':
    assert (separators == 2).all()
    second = np.cumsum(text == tokenizer.sep, axis=1) - (text == tokenizer.sep)
    np.testing.assert_array_equal(rows['types'], (second == 1) & read)
  else:
    assert not rows['types'].any()
  if objective in ('mlm', 'doc_sentences'):
    np.testing.assert_array_equal(separators, rows['segments'].max(1))
    assert rows['segments'].max() > 1
  if objective == 'full_sentences':
    assert (separators > rows['segments'].max(1)).any()


def restored(rows):
  """The text with targets in their places, and what was read there."""
  text, chosen = rows['inputs'].copy(), rows['weights'] > 0
  row, _ = np.nonzero(chosen)
  at = rows['predict_at'][chosen]
  shown = text[row, at]
  text[row, at] = rows['targets'][chosen]
  return text, shown


def test_whole_words_of_a_batch():
  config = masked_config('mlm', whole_words=True, length=32, predictions=8)
  data, rows = take(config, 'encoder')
  text, _ = restored(rows)
  picked = np.zeros(text.shape, bool)
  chosen = rows['weights'] > 0
  picked[np.nonzero(chosen)[0], rows['predict_at'][chosen]] = True
  specials = [data.tokenizer.cls, data.tokenizer.sep]
  inside = (rows['segments'] > 0) & ~np.isin(text, specials)
  goes_on = inside & ~data.tokenizer.word_starts[text]
  goes_on = goes_on[:, 1:] & inside[:, :-1]
  assert goes_on.any()
  np.testing.assert_array_equal(picked[:, 1:][goes_on], picked[:, :-1][goes_on])


def rows_of_epochs(data, epochs):
  """Epoch -> its rows over all streams, sorted, cursors left out."""
  config, found = data.config, [[] for _ in range(epochs)]
  for batch in data.batches(data.start(), np.arange(config.batch)):
    epoch = batch['cursor'][:, 0]
    if epoch.min() >= epochs:
      break
    for row in np.flatnonzero(epoch < epochs):
      parts = (x[row] for n, x in batch.items() if n != 'cursor')
      found[epoch[row]].append(b''.join(x.tobytes() for x in parts))
  return [sorted(rows) for rows in found]


@pytest.mark.parametrize('objective', ['mlm', 'sentence_pairs'])
def test_static_masks(objective, monkeypatch):
  """A chunk is masked the same every second epoch, in any stream."""
  monkeypatch.setattr(synthetic.Synthetic, 'documents', 4)
  monkeypatch.setattr(synthetic.Synthetic, 'tokens', 60)

  def rows(epochs, **changes):
    changes = {'duplicates': 2, 'holdout': 4} | changes
    config = masked_config(objective, length=16, predictions=3, **changes)
    data = pipeline.open_data(config, 5, 300, family='encoder')
    return rows_of_epochs(data, epochs)

  first, other, again = rows(3)
  assert first == again
  assert len(first) > 200
  assert len(set(first) & set(other)) < len(first) / 4
  assert rows(2, streams=2) == [first, other]
  first, _, again = rows(3, duplicates=0)
  assert len(set(first) & set(again)) < len(first) / 4


@pytest.mark.parametrize('windows', [False, True])
def test_resuming_gives_the_same_rows(windows):
  config, family = masked_config('mlm'), 'encoder'
  if windows:
    config, family = masked_config('causal', start='none'), 'decoder'
  data, rows = take(config, family)
  places = rows['cursor'][:16].reshape(4, 4, 4)[:, -1]  # after the first batch
  again = next(data.batches(places, np.arange(16)))
  for name, x in again.items():
    np.testing.assert_array_equal(x, rows[name][16:32], name)


@pytest.mark.parametrize(
  ('objective', 'changes', 'message'),
  [
    ('causal', {'predictions': 9}, 'data.predictions=9 must be 0'),
    ('mlm', {'predictions': 0}, 'data.predictions=0 must be at least 1'),
    ('mlm', {'sentinels': 100}, 'data.sentinels=100 must be 0'),
    ('mlm', {'predictions': 65}, 'data.predictions=65 must be at most'),
    ('mlm', {'noise_density': 0.0}, 'data.noise_density=0.0 must lie'),
    ('mlm', {'masking': 'bart'}, "data.masking='bart' must be one of bert"),
    ('mlm', {'masked_share': 1.5}, 'data.masked_share=1.5 must lie between'),
    (
      'mlm',
      {'masked_share': 0.0, 'random_share': 0.0},
      'data.masked_share=0.0 must be above 0, or data.random_share',
    ),
    ('mlm', {'random_share': 0.3}, 'must lie between 0 and 0.2'),
    ('mlm', {'duplicates': -1}, 'data.duplicates=-1 must be 0 or more'),
    ('mlm', {'short_share': 0.1}, 'data.short_share=0.1 must be 0.0: data.obj'),
    ('mlm', {'single_sentences': True}, 'single_sentences=True must be False'),
    (
      'mlm',
      {'masking': 'electra', 'whole_words': True},
      'data.whole_words=True must be False',
    ),
    ('causal', {'whole_words': True}, 'data.whole_words=True must be False'),
    ('span_corruption', {}, 'data.sentinels=0 must be at least 1'),
  ],
)
def test_keys_of_other_objectives(objective, changes, message):
  config = vars(masked_config('mlm'))
  if objective != 'mlm':
    config = vars(masked_config('causal')) | {'objective': objective}
  if objective == 'span_corruption':
    config |= {'document_tokens': 9, 'mean_span_length': 3.0}
    config |= {'noise_density': 0.15}
  with pytest.raises(ValueError, match=message):
    data_config(**(config | changes))


def test_rows_for_another_topology():
  with pytest.raises(ValueError, match="'causal' makes rows for model.family"):
    batch_shapes(masked_config('causal'), 'encoder')
  with pytest.raises(ValueError, match="'span_corruption' makes rows"):
    pipeline.open_data(data_config(), 0, 300, family='electra')


def test_pairs_need_five_tokens():
  masked_config('sentence_pairs', length=5, predictions=1)
  with pytest.raises(ValueError, match=r'data\.length=4 must be at least 5'):
    masked_config('sentence_pairs', length=4, predictions=1)


def test_pairs_of_single_sentences():
  """Rows of synthetic text, whose sentences have 16 tokens."""
  with pytest.raises(ValueError, match='short_share=0.1 must be 0: with data'):
    masked_config('sentence_pairs', single_sentences=True)
  keys = {'single_sentences': True, 'short_share': 0.0}
  _, rows = take(masked_config('sentence_pairs', **keys), 'encoder')
  lengths = (rows['segments'] > 0).sum(axis=1)
  assert lengths.max() == 16 + 16 + 3
  assert (lengths == 35).mean() > 0.8  # but a document's last sentence
  assert {*rows['is_next'].tolist()} == {0, 1}


def test_a_document_alone_is_reported(tmp_path, capfd):
  """A chunk of one document is reported once: its pairs are not random."""
  for number in range(7):
    (tmp_path / f'{number}.txt').write_text(
      'One. Two. Three.\n\n' * (number or 2)
    )
  config = masked_config('sentence_pairs', source=f'text:{tmp_path}/*.txt')
  source = opening.open_source(config.source, 0, 300, 0)
  read = corpus.Corpus('data.source', config.source, source, config)
  tokenizer = Numbers(300, 0, True)
  tokenizer.encode_batch = lambda texts, threads: [
    np.full(len(text), 9) for text in texts
  ]
  for file in range(7):
    for _ in range(2):  # epochs
      read.documents_of(file, list(source.records(file, 0)), tokenizer)
  said = capfd.readouterr().out
  assert said.count('has a chunk of one document') == 1
  assert f'{tmp_path}/1.txt has a chunk of one document' in said
