"""Rows of decoders and encoders: laid out, masked, batched."""

import numpy as np
import pytest

from configs import ablations, tree
from input_pipeline import pipeline
from input_pipeline.objectives import features, masking
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.sources import opening, synthetic
from input_pipeline.streams import corpus, fingerprints
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config
from tests.input_pipeline.objectives.test_masking import (
  CLS,
  SEP,
  make_config,
  rng,
)

# ---- Layout -----------------------------------------------------------------


def test_pieces_are_framed():
  framed = masking.frame(np.array([[7, 8], [9, 10]]), CLS, SEP)
  np.testing.assert_array_equal(framed, [[CLS, 7, 8, SEP], [CLS, 9, 10, SEP]])


def test_rows_of_a_decoder():
  shapes = features.decoder_shapes(8)
  pieces = [np.array([[11, 12, 13]]), np.array([[21, 22, 23, 24]])]
  rows = features.decoder(pieces, shapes, rng(), pack=True)
  batch = features.split(rows, shapes)
  assert {n: (x.shape[1:], x.dtype) for n, x in batch.items()} == shapes
  (row,) = batch['targets'].tolist()
  assert row == [11, 12, 13, 21, 22, 23, 24, 0]
  assert batch['inputs'].tolist() == [[0, 11, 12, 0, 21, 22, 23, 0]]
  assert batch['segments'].tolist() == [[1, 1, 1, 2, 2, 2, 2, 0]]
  assert batch['positions'].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0]]
  assert batch['weights'].tolist() == [[1] * 7 + [0]]

  started = features.decoder(pieces, shapes, rng(), pack=True, start=9)
  started = features.split(started, shapes)
  assert started['inputs'].tolist() == [[9, 11, 12, 9, 21, 22, 23, 0]]

  apart = features.decoder(pieces, shapes, rng(), pack=False)
  apart = features.split(apart, shapes)
  rows = sorted(apart['targets'].tolist())
  assert rows == [[11, 12, 13] + [0] * 5, [21, 22, 23, 24] + [0] * 4]
  assert apart['segments'].max() == 1


def causal_rows(documents, **changes):
  config = make_config('causal', **changes)
  shapes = batch_shapes(config, 'decoder')
  tokenizer = Numbers(300, 0)
  tokenizer.pad, tokenizer.eos = 290, 291
  documents = [np.array(document, np.int32) for document in documents]
  rows = make_rows(documents, tokenizer, config, shapes, rng(), 'decoder')
  return features.split(rows, shapes)


@pytest.mark.parametrize('pack', [True, False])
def test_rows_that_are_windows(pack):
  """nanoGPT, Megatron-LM and RWKV-LM cut a line of tokens in this way:

  x = line[i : i + T], y = line[i + 1 : i + T + 1], i in steps of T.
  """
  lengths = (11, 1, 30, 4)
  starts = np.cumsum((10, *lengths))
  documents = [list(range(*x)) for x in zip(starts, starts[1:], strict=False)]
  rows = causal_rows(documents, start='none', length=8, pack=pack)
  ids = {d[0]: [*d, 291] for d in documents}  # in any order
  follows = {x: y for d in ids.values() for x, y in zip(d, d[1:], strict=False)}
  read = rows['segments'] > 0
  np.testing.assert_array_equal(rows['weights'], read)
  pairs = [*zip(rows['inputs'][read], rows['targets'][read], strict=True)]
  # Every token except the first is a target once, after the token before it.
  targets = [y for _, y in pairs if y != 291]
  missing = {i for d in documents for i in d} - {*targets}
  assert len(missing) == 1
  assert missing < ids.keys()
  assert len(targets) == sum(lengths) - 1
  assert len(pairs) == sum(lengths) + len(lengths) - 1
  for x, y in pairs:
    assert y == follows[x] if x != 291 else y in ids
  # 50 tokens: six rows of eight targets, and the last one.
  assert sorted(read.sum(1)) == [1, *[8] * 6]
  line = rows['inputs'][read.sum(1) == 8]
  ends = {*rows['targets'][read.sum(1) == 8][:, -1]} - {291}
  assert len(ends & {*line[:, 0], *rows['inputs'][read.sum(1) < 8][:, 0]}) > 2
  np.testing.assert_array_equal(
    rows['positions'][read.sum(1) == 8], [range(8)] * 6
  )


def test_windows_of_documents_that_are_not_joined():
  documents = [[10, 11, 12, 13, 14], [20]]
  rows = causal_rows(documents, start='none', length=4, concatenate=False)
  found = zip(rows['inputs'], rows['targets'], rows['segments'], strict=True)
  segments = set()
  for x, y, z in found:
    for segment in {*z} - {0}:
      own = z == segment
      segments.add((tuple(x[own].tolist()), tuple(y[own].tolist())))
  assert segments == {
    ((10, 11, 12, 13), (11, 12, 13, 14)),
    ((14,), (291,)),
    ((20,), (291,)),
  }
  assert causal_rows([], start='none', length=4)['inputs'].shape == (0, 4)
  one = causal_rows([[9]], start='none', length=4)
  assert one['inputs'].tolist() == [[9, 0, 0, 0]]


@pytest.mark.parametrize(
  ('choice', 'first'),
  [
    ({}, 290),
    ({'start': 'pad'}, 290),
    ({'start': 'eos'}, 291),
    ({'start': 'bos'}, 290),  # the vocabulary has none
    ({'start': 'bos', 'bos': 2}, 2),
    ({'start': '17'}, 17),
  ],
)
def test_first_token_of_a_text(choice, first):
  rows = causal_rows([[10, 11], [20, 21]], length=4, **choice)
  begins = (rows['positions'] == 0) & (rows['segments'] > 0)
  assert {*rows['inputs'][begins]} == {first}
  (row,) = rows['inputs'][rows['segments'].sum(1) == 4]
  assert row[0] == first
  assert row[1] in (10, 20)


@pytest.mark.parametrize(
  ('objective', 'changes', 'message'),
  [
    ('causal', {'start': 'cls'}, "data.start='cls' must be one of none, bos"),
    ('causal', {'bos': -2}, 'data.bos=-2 must be -1, or an id'),
    ('causal', {'bos': 3}, "id that data.start='pad' reads"),
    ('mlm', {'start': 'bos'}, "data.start='bos' must be 'pad'.*does not read"),
    ('prefix', {'start': 'none'}, "data.start='none' must be a token"),
  ],
)
def test_impossible_starts(objective, changes, message):
  values = vars(make_config('causal')) | {'objective': 'prefix'}
  if objective != 'prefix':
    values = vars(make_config(objective))
  with pytest.raises(ValueError, match=message):
    data_config(**values | changes)


def test_rows_of_an_older_format_are_named():
  """The error when a run of an older version is resumed."""
  [line] = fingerprints.changes({'format': 4}, {'format': 5})
  assert line.startswith('format: 4, now 5 (')
  assert 'CHANGELOG.md' in line


def test_a_start_beyond_the_vocabulary():
  for choice in ({'start': '300'}, {'start': 'none', 'bos': 300}):
    with pytest.raises(ValueError, match='not an id of data.tokenizer, which'):
      causal_rows([[10, 11]], **choice)


# As in each one's published code, if it has any.
STARTS = {
  'none': (
    *('gpt1', 'gpt2', 'gpt3', 'jurassic', 'gopher', 'chinchilla', 'mt_nlg'),
    *('yalm', 'bloom', 'rwkv'),
  ),
  'bos': ('llama', 'llama:8b,version=3'),
  'pad': ('palm', 'lamda', 't5', 'ul2', 'transformer', 'bert', 'electra'),
}


def test_the_start_of_each_recipe():
  for start, names in STARTS.items():
    for name in names:
      assert tree.config_of(name).data.start == start, name
  changed = ablations.get_config('gpt2:tiny,objective=prefix')
  assert (changed.data.start, changed.data.bos) == ('pad', -1)


def test_no_documents_no_rows():
  for objective, family in (
    ('causal', 'decoder'),
    ('mlm', 'encoder'),
    ('sentence_pairs', 'encoder'),
    ('full_sentences', 'encoder'),
  ):
    config = make_config(objective)
    shapes = batch_shapes(config, family)
    tokenizer = Numbers(300, 0, config.masks)
    rows = make_rows([], tokenizer, config, shapes, rng(), family)
    parts = features.split(rows, shapes)
    assert {n: x.shape for n, x in parts.items()} == {
      n: (0, *tail) for n, (tail, _) in shapes.items()
    }


def test_rows_of_pairs():
  pairs = [(np.array([7, 8]), np.array([9]), 1), (np.array([7]), [8, 9], 0)]
  tokens, others = features.pairs_rows(pairs, 8, CLS, SEP)
  assert tokens.tolist() == [
    [CLS, 7, 8, SEP, 9, SEP, 0, 0],
    [CLS, 7, SEP, 8, 9, SEP, 0, 0],
  ]
  assert others['types'].tolist() == [
    [0, 0, 0, 0, 1, 1, 0, 0],
    [0, 0, 0, 1, 1, 1, 0, 0],
  ]
  assert others['positions'].tolist() == [[0, 1, 2, 3, 4, 5, 0, 0]] * 2
  assert others['segments'].tolist() == [[1] * 6 + [0] * 2] * 2
  assert others['is_next'].tolist() == [1, 0]


# ---- Whole batches ----------------------------------------------------------


def test_long_sentences_of_pairs_stay_whole():
  """A sentence is cut only if a pair has no room for it."""
  config = make_config('sentence_pairs', length=128, predictions=20)
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
  config = make_config('causal', concatenate=concatenate)
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
  config = make_config(
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
  config = make_config('mlm', whole_words=True, length=32, predictions=8)
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
    config = make_config(objective, length=16, predictions=3, **changes)
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
  config, family = make_config('mlm'), 'encoder'
  if windows:
    config, family = make_config('causal', start='none'), 'decoder'
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
    ('mlm', {'masked_share': 1.5}, 'data.masked_share=1.5 must be above'),
    ('mlm', {'random_share': 0.3}, 'must lie between 0 and 0.2'),
    ('mlm', {'duplicates': -1}, 'data.duplicates=-1 must be 0 or more'),
    ('mlm', {'short_share': 0.1}, 'data.short_share=0.1 must be 0.0: data.obj'),
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
  config = vars(make_config('mlm'))
  if objective != 'mlm':
    config = vars(make_config('causal')) | {'objective': objective}
  if objective == 'span_corruption':
    config |= {'document_tokens': 9, 'mean_span_length': 3.0}
    config |= {'noise_density': 0.15}
  with pytest.raises(ValueError, match=message):
    data_config(**(config | changes))


def test_rows_for_another_topology():
  with pytest.raises(ValueError, match="'causal' makes rows for model.family"):
    batch_shapes(make_config('causal'), 'encoder')
  with pytest.raises(ValueError, match="'span_corruption' makes rows"):
    pipeline.open_data(data_config(), 0, 300, family='electra')


def test_pairs_need_five_tokens():
  make_config('sentence_pairs', length=5, predictions=1)
  with pytest.raises(ValueError, match=r'data\.length=4 must be at least 5'):
    make_config('sentence_pairs', length=4, predictions=1)


def test_a_document_alone_is_reported(tmp_path, capfd):
  """A chunk of one document is reported once: its pairs are not random."""
  for number in range(7):
    (tmp_path / f'{number}.txt').write_text(
      'One. Two. Three.\n\n' * (number or 2)
    )
  config = make_config('sentence_pairs', source=f'text:{tmp_path}/*.txt')
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
