"""Rows of decoders, encoders and pairs: laid out, and begun."""

import numpy as np
import pytest

from configs import ablations, tree
from input_pipeline.objectives import features, masking
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.streams import fingerprints
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config
from tests.helpers.objectives import masked_config, rng
from tests.input_pipeline.objectives.test_masking import CLS, SEP


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
  config = masked_config('causal', **changes)
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
  values = vars(masked_config('causal')) | {'objective': 'prefix'}
  if objective != 'prefix':
    values = vars(masked_config(objective))
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
    config = masked_config(objective)
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
