"""What transformers makes of an exported tokenizer: the same ids."""

import json
import random

import pytest
import transformers

from input_pipeline import tokenizer_export, tokenizers

TEXTS = (
  'A man is  eating a piece of bread, 1234 times.',
  'Ünïcode naïve CAPS and\nnewlines\t tabs',
  '日本語 ﬁ 😀',
  "don't stop, it's ok! ",
  '',
)


def corpus():
  rng = random.Random(0)
  letters = 'etaoinshrdlucmfwypvbgkjqxzETAOI,.'
  words = [
    ''.join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(999)
  ]
  return [' '.join(rng.choices(words, k=50)) for _ in range(200)]


@pytest.mark.parametrize(
  ('kind', 'lowercase', 'specials', 'reader', 'name'),
  [
    ('unigram', False, False, 'T5Tokenizer', 'spiece.model'),
    ('bpe', False, False, 'LlamaTokenizer', 'tokenizer.model'),
    ('wordpiece', False, True, 'BertTokenizer', 'tokenizer.json'),
    ('wordpiece', True, True, 'BertTokenizer', 'tokenizer.json'),
    ('byte_bpe', False, True, '', 'tokenizer.json'),
    ('bytes', False, False, '', 'tokenizer.json'),
  ],
)
def test_transformers_makes_the_same_ids(
  kind, lowercase, specials, reader, name, tmp_path
):
  ours = tokenizers.train(corpus(), 420, 10, kind, lowercase, specials)
  found = tokenizer_export.files(ours, kind)
  assert found[name] == ours.model
  for file, content in found.items():
    (tmp_path / file).write_bytes(content)
  # The class that a model's type names would change what it reads.
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'electra'}))
  theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
  assert reader in type(theirs).__name__
  assert len(theirs) == ours.size
  for text, ids in zip(TEXTS, ours.encode_batch(list(TEXTS)), strict=True):
    assert theirs.encode(text, add_special_tokens=False) == ids.tolist(), text
  for role in ('bos', 'eos', 'unk', 'cls', 'sep', 'mask'):
    theirs_id = getattr(theirs, f'{role}_token_id')
    assert theirs_id in (None, getattr(ours, role)), role
  around = [x for x in (ours.cls, ours.sep) if reader == 'BertTokenizer']
  around = [ours.eos] if kind == 'unigram' else around
  ids = theirs.encode('')
  assert ids == around


def test_a_model_unlike_those_of_transformers_is_not_written():
  unigram = tokenizers.train(corpus(), 420, 10, 'unigram')
  with pytest.raises(ValueError, match='it changes characters'):
    tokenizer_export.files(unigram, 'bpe')
  bpe = tokenizers.train(corpus(), 420, 10, 'bpe')
  with pytest.raises(ValueError, match='it keeps spaces'):
    tokenizer_export.files(bpe, 'unigram')
