"""What the first rows of a chunk leave of it: every token, once."""

import numpy as np
import pytest

from input_pipeline.objectives import features, remainders, rows
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import PAIRS, masked_config, pairs_config

FIRST = 1000  # above every special token, so a token's id says where it is from
TOKENIZER = Numbers(100_000, 40, specials=True)


def documents(sentences=False):
  """Documents of 1 to 90 tokens, each token of another id."""
  sizes = np.random.default_rng(3).integers(1, 90, size=12)
  ids = np.arange(FIRST, FIRST + sizes.sum(), dtype=np.int32)
  found = np.split(ids, np.cumsum(sizes)[:-1])
  if sentences:
    found = [np.split(ids, range(7, len(ids), 7)) for ids in found]
  return found


def flat(document):
  whole = isinstance(document, np.ndarray)
  return document if whole else np.concatenate(document)


def tokens_of(made, shapes):
  """The documents' tokens that rows hold, sorted, each once."""
  arrays = features.split(made, shapes)
  if 'predict_at' in arrays:  # put the predicted tokens back
    read = arrays['inputs'].copy()
    row, place = np.nonzero(arrays['weights'])
    read[row, arrays['predict_at'][row, place]] = arrays['targets'][row, place]
    if 'is_next' in arrays:
      anywhere = (arrays['types'] == 1) & (arrays['is_next'] == 1)[:, None]
      read[anywhere] = 0
    found = read
  else:
    names = [x for x in ('encoder_inputs', 'targets') if x in arrays]
    found = np.concatenate([arrays[name].ravel() for name in names])
  last = FIRST + sum(len(flat(d)) for d in documents())
  return np.unique(found[(found >= FIRST) & (found < last)])


OBJECTIVES = [
  *((o, 'encoder_decoder') for o in PAIRS),
  *((o, 'decoder') for o in ('causal', *PAIRS)),
  *((o, 'encoder') for o in ('mlm', 'full_sentences', 'doc_sentences')),
  ('sentence_pairs', 'encoder'),
]


@pytest.mark.parametrize(('objective', 'family'), OBJECTIVES)
def test_no_token_is_lost_or_read_twice(objective, family):
  make = pairs_config if objective in PAIRS else masked_config
  changes = {'length': 32}
  if objective.startswith('ul2'):
    changes['length'] = 64
  if objective not in PAIRS and objective != 'causal':
    # A random token would look like one of the text.
    changes |= {'random_share': 0.0, 'predictions': 9, 'short_share': 0.0}
  config = make(objective, **changes)
  texts = documents(config.sentences)
  shapes = rows.batch_shapes(config, family)

  def made():
    rng = np.random.default_rng(5)
    return rows.make_rows(texts, TOKENIZER, config, shapes, rng, family)

  count = len(made())
  for read in (0, 1, count // 3, count - 1, count):
    parts, whole = remainders.after(
      read, texts, None, TOKENIZER, config, np.random.default_rng(5), family
    )
    left = [flat(part) for part in parts]
    held = np.sort(np.concatenate([*left, np.zeros(0, np.int32)]))
    np.testing.assert_array_equal(held, tokens_of(made()[read:], shapes))
    taken = tokens_of(made()[:read], shapes)
    assert not np.intersect1d(taken, held).size
    # Each part stood together in one text, and knows the text's end.
    lasts = {int(flat(text)[-1]) for text in texts}
    assert all((np.diff(part) == 1).all() for part in left)
    assert whole == [int(part[-1]) in lasts for part in left]
    if config.sentences:
      sizes = [len(sentence) for part in parts for sentence in part]
      assert max(sizes, default=1) <= 7


def test_ends_of_texts_are_not_lost():
  """EOS in rows that were not read is in those of what they left, no other."""
  config = masked_config(
    'causal', length=4, start='eos', concatenate=False, pack=False
  )
  shapes = rows.batch_shapes(config, 'decoder')

  def made(texts, whole=None):
    rng = np.random.default_rng(5)
    found = rows.make_rows(
      texts, TOKENIZER, config, shapes, rng, 'decoder', whole
    )
    return features.split(found, shapes)['targets']

  texts = [*documents(), np.zeros(0, np.int32)]
  alone = 0
  for read in range(len(made(texts))):
    parts, whole = remainders.after(
      read, texts, None, TOKENIZER, config, np.random.default_rng(5), 'decoder'
    )
    expected = (made(texts)[read:] == TOKENIZER.eos).sum()
    assert (made(parts, whole) == TOKENIZER.eos).sum() == expected
    alone += sum(part.tolist() == [TOKENIZER.eos] for part in parts)
  assert alone  # a row that begins with EOS


def test_the_rest_of_a_text_has_no_end_before_its_end():
  """EOS follows the end of a text, not the end of a part of it."""
  config = masked_config('causal', length=8, pack=False, start='none')
  shapes = rows.batch_shapes(config, 'decoder')
  text = [np.arange(FIRST, FIRST + 40, dtype=np.int32)]
  parts = [text[0][:16], text[0][24:]]
  arrays = features.split(
    rows.make_rows(
      parts, TOKENIZER, config, shapes, np.random.default_rng(0), 'decoder',
      [False, True],
    ),
    shapes,
  )  # fmt: skip
  ends = arrays['targets'] == TOKENIZER.eos
  assert ends.sum() == 1
  assert arrays['inputs'][ends].tolist() == [FIRST + 39]
