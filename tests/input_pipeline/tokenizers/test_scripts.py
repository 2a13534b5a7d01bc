"""Whole-word masking in scripts that put no space between words."""

import numpy as np
import pytest

from input_pipeline.objectives import features, masking
from input_pipeline.objectives.rows import batch_shapes, encode, make_rows
from input_pipeline.tokenizers import kinds, scripts
from tests.helpers import corpora
from tests.helpers.objectives import masked_config, rng
from tests.input_pipeline.objectives.test_masking import slow_words

TEXTS = {
  'chinese': (
    '子曰學而時習之不亦說乎有朋自遠方來不亦樂乎人不知而不慍不亦君子乎其為人也孝弟'
    '而好犯上者鮮矣不好犯上而好作亂者未之有也君子務本本立而道生孝弟也者其為仁之本'
    '與巧言令色鮮矣仁吾日三省吾身為人謀而不忠乎與朋友交而不信乎傳不習乎道千乘之國'
  ),
  'japanese': (
    '吾輩は猫である名前はまだ無いどこで生れたかとんと見当がつかぬ何でも薄暗いじめじめ'
    'した所でニャーニャー泣いていた事だけは記憶している吾輩はここで始めて人間というもの'
    'を見たしかもあとで聞くとそれは書生という人間中で一番獰悪な種族であったそうだ'
  ),
  'thai': (
    'มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิต่างมีเหตุผลและมโนธรรม'
    'และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพทุกคนย่อมมีสิทธิและอิสรภาพทั้งปวง'
  ),
}


def documents(language):
  """120 parts of a text, each of 20 to 300 characters from a random place."""
  draw, text = rng(2), TEXTS[language] * 4
  found = []
  for _ in range(120):
    start = draw.integers(len(TEXTS[language]))
    found.append(text[start : start + draw.integers(20, 300)])
  return found


@pytest.mark.parametrize('kind', ['byte_bpe', 'unigram', 'bpe', 'wordpiece'])
@pytest.mark.parametrize('language', TEXTS)
def test_share_of_masked_tokens(language, kind):
  """15% of all tokens are masked; a row has as many as BERT's rule says.

  A row may have a few less if its last word does not fit.
  """
  texts = documents(language)
  # Words with spaces too: WordPiece has no pieces of Chinese words.
  both = [*texts, *corpora.texts(60)]
  tokenizer = kinds.train(both, 480, 0, kind, False, True)
  config = masked_config(
    'mlm', whole_words=True, length=128, predictions=20, concatenate=False
  )
  shapes = batch_shapes(config, 'encoder')
  encoded = encode([t.encode() for t in texts], tokenizer, config)
  rows = make_rows(encoded, tokenizer, config, shapes, rng(), 'encoder')
  batch = features.split(rows, shapes)
  read = (batch['segments'] > 0).sum(axis=1)
  wanted = np.clip(np.rint(0.15 * read), 1, 20)
  found = batch['weights'].sum(axis=1)
  assert (found <= wanted).all()
  assert found.sum() / read.sum() == pytest.approx(0.15, rel=0.04)
  assert (found == wanted).mean() > 0.9
  # Words are short, so masked tokens are spread over a row.
  starts = tokenizer.word_starts
  long = [max(np.diff(np.flatnonzero(starts[d])), default=1) for d in encoded]
  assert np.median(long) <= 6


@pytest.mark.parametrize(
  ('text', 'begins'),
  [
    ('語', True),
    ('の', True),
    ('ﾆ', True),
    ('。', True),
    ('ก', True),
    ('ั', False),  # a vowel over a letter
    ('က', True),
    ('ខ', True),
    ('𠮷', True),
    ('w', False),
    ('é', False),
    ('’', False),
    ('—', False),
    ('한', False),  # Korean has spaces
    ('я', False),
    ('ع', False),
    ('क', False),
    ('😀', False),
    ('', False),
  ],
)
def test_characters(text, begins):
  assert scripts.begins_unspaced(text.encode()) is begins
  # Bytes that continue a character begin no word.
  for place in range(1, len(text.encode())):
    assert not scripts.begins_unspaced(text.encode()[place:])


@pytest.mark.parametrize('text', ['語', 'の', 'ー', '𠮷'])
def test_parts_of_characters(text):
  """A piece of byte-level BPE may be a character's first bytes."""
  assert scripts.begins_unspaced(text.encode()[:-1])


def test_parts_of_other_characters():
  """Indian scripts share their first byte with Thai, which has no spaces."""
  for text in '’', '😀', 'क', '한':
    data = text.encode()
    assert not any(scripts.begins_unspaced(data[:n]) for n in (1, 2))


def test_a_word_of_a_whole_row():
  """Tokens of a word above every count are drawn, all equally likely."""
  N, T = 4000, 30
  maskable = np.ones((N, T), bool)
  starts = np.zeros((N, T), bool)
  counts = np.full(N, 4)
  at, chosen = masking.choose_words(rng(), maskable, starts, counts, 6)
  assert (chosen.sum(axis=1) == 4).all()
  assert (np.diff(at[:, :4], axis=1) > 0).all()
  found = np.bincount(at[chosen], minlength=T) / N
  p = 4 / T
  np.testing.assert_allclose(found, p, atol=4 * (p * (1 - p) / N) ** 0.5)


def test_a_long_word_fills_the_count():
  """Five words of one token and one of 20 give six: one is the long word's."""
  maskable = np.ones((500, 25), bool)
  starts = np.zeros((500, 25), bool)
  starts[:, [0, 1, 2, 3, 4, 5]] = True
  counts = np.full(500, 6)
  at, chosen = masking.choose_words(rng(), maskable, starts, counts, 8)
  assert chosen.sum(axis=1).tolist() == [6] * 500
  assert (at[:, :5] == np.arange(5)).all()
  assert set(at[:, 5]) == set(range(5, 25))
  # If the short words fill the count, it is left out, as in BERT's release.
  at, chosen = masking.choose_words(rng(), maskable, starts, counts - 1, 8)
  assert (at[:, :5] == np.arange(5)).all()
  assert chosen.sum(axis=1).tolist() == [5] * 500


def test_words_that_fit_are_as_in_berts_release():
  """A word that fits is never masked in part, whatever the count.

  Rows with longer words change neither other rows nor later draws.
  """
  N, T, P = 60, 48, 8
  draw = rng(1)
  counts = draw.integers(1, P + 1, N)
  ends = [np.cumsum(draw.integers(1, n + 1, T)) for n in counts]
  starts = np.array([np.isin(np.arange(T), row) for row in ends])
  maskable = np.ones((N, T), bool)
  generator = rng(4)
  at, chosen = masking.choose_words(generator, maskable, starts, counts, P)
  for row in range(N):
    words = slow_words(maskable[row], starts[row])
    taken = set(at[row][chosen[row]].tolist())
    assert all(set(w) <= taken or not taken & set(w) for w in words)
  longer, again = starts.copy(), rng(4)
  longer[::2, 1:] = False  # one word
  found = masking.choose_words(again, maskable, longer, counts, P)
  assert found[1][::2].sum(axis=1).tolist() == counts[::2].tolist()
  for before, after in zip((at, chosen), found, strict=True):
    np.testing.assert_array_equal(before[1::2], after[1::2])
  assert generator.random() == again.random()


@pytest.mark.parametrize('text', ['Zm9v+2JhcmJh/enF1eHh5', 'donaudampfschiff'])
def test_the_share_holds_in_short_rows(text):
  """Documents have 8 to 20 characters; words exceed a row's count."""
  tokenizer = kinds.train(corpora.texts(60), 300, 0, 'byte_bpe', False, True)
  draw, whole = rng(3), text * 8
  texts = [
    whole[at : at + draw.integers(8, 20)] for at in draw.integers(40, size=200)
  ]
  config = masked_config(
    'mlm', whole_words=True, length=32, predictions=5, concatenate=False,
    pack=False,
  )  # fmt: skip
  shapes = batch_shapes(config, 'encoder')
  encoded = encode([t.encode() for t in texts], tokenizer, config)
  rows = make_rows(encoded, tokenizer, config, shapes, rng(), 'encoder')
  batch = features.split(rows, shapes)
  read = (batch['segments'] > 0).sum(axis=1)
  assert np.median(read) >= 8
  wanted = np.clip(np.rint(0.15 * read), 1, 5)
  found = batch['weights'].sum(axis=1)
  assert (found == wanted).mean() > 0.9
  assert found.sum() == pytest.approx(wanted.sum(), rel=0.04)
