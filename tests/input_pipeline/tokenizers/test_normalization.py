"""How SentencePiece normalises texts, and the settings of its training."""

import unicodedata

import pytest

from input_pipeline import tokenizing
from input_pipeline.tokenizers import kinds
from tests.helpers.corpora import data_config
from tests.helpers.tokenizers import texts

FULLWIDTH = 'ﬁne ＡＢＣ  x²\tÅ 2048 bada'


def test_a_lossless_unigram():
  """Every character comes back with PaLM's (Chowdhery et al. 2022, 2)."""
  lines = [*texts(), *['bada 1 22 333 4096  duku'] * 9]
  made = kinds.train(lines, 400, 5, 'unigram', lossless=True)
  plain = kinds.train(lines, 100, 5, 'unigram')
  odd = [FULLWIDTH, ' a  b\n\n  c ', '日本 😀 \u200d', 'tab\t\r\n', '']
  for text in odd:
    [ids] = made.encode_batch([text])
    assert made.decode(ids) == text
    assert made.unk not in ids
  assert [plain.decode(i) for i in plain.encode_batch(odd)] != odd
  digits = [made.piece(i) for i in made.encode_batch(['bada 4096'])[0]]
  assert digits[-4:] == ['4', '0', '9', '6']
  assert made.piece(made.encode_batch(['\x01'])[0][-1]) == '<0x01>'
  assert made.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
  ('kind', 'normalization', 'shown'),
  [
    ('bpe', '', FULLWIDTH),
    ('bpe', 'none', FULLWIDTH),
    ('bpe', 'nfkc', unicodedata.normalize('NFKC', FULLWIDTH)),  # Gopher's
    ('bpe', 'nmt_nfkc', 'fine ABC  x2 Å 2048 bada'),
  ],
)
def test_normalization(kind, normalization, shown):
  lines = [*texts(), FULLWIDTH]
  made = kinds.train(lines, 420, 5, kind, normalization=normalization)
  [ids] = made.encode_batch([FULLWIDTH])
  assert made.decode(ids) == shown


def test_normalization_of_a_unigram():
  lines = [*texts(), *[FULLWIDTH] * 9]
  usual = kinds.train(lines, 110, 5, 'unigram')
  said = kinds.train(lines, 110, 5, 'unigram', normalization='nmt_nfkc')
  none = kinds.train(lines, 110, 5, 'unigram', normalization='none')
  assert usual.fingerprint == said.fingerprint != none.fingerprint
  (one, two), (other, _) = (
    t.encode_batch(['ＡＢＣ', 'ABC']) for t in (usual, none)
  )
  assert one.tolist() == two.tolist() != other.tolist()


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'normalization': 'nfc'}, "normalization='nfc' must be one of '', 'none'"),
    (
      {'normalization': 'nfkc', 'tokenizer_kind': 'byte_bpe'},
      "'byte_bpe' does not read it",
    ),
    (
      {'lossless': True, 'tokenizer_kind': 'wordpiece'},
      "'wordpiece' does not read it",
    ),
  ],
)
def test_settings_of_training(values, message):
  with pytest.raises(ValueError, match=message):
    data_config(**values)


def test_recipes_train_their_vocabularies(tmp_path):
  """PaLM and Gopher have their own; Chinchilla's is Gopher's without NFKC."""
  from configs import chinchilla, gopher, palm
  from input_pipeline.config import DataConfig

  (tmp_path / 'text').write_text('\n\n'.join([*texts(), FULLWIDTH] * 2))
  shown = {}
  for module in palm, gopher, chinchilla:
    for size in [*module.SIZES][:1]:
      config = module.get_config(size)
      config.data.source = f'text:{tmp_path}/text'
      data = DataConfig(**config.data)
      made = tokenizing.train(data, 0, 450)
      [ids] = made.encode_batch([FULLWIDTH])
      shown[module.__name__] = made.decode(ids)
  assert shown == {
    'configs.palm': FULLWIDTH,
    'configs.gopher': unicodedata.normalize('NFKC', FULLWIDTH),
    'configs.chinchilla': FULLWIDTH,
  }
