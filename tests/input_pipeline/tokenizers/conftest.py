"""Tokenizers that are trained once, and folders of published files."""

import pytest

from input_pipeline.tokenizers import kinds
from tests.helpers.tokenizers import SENTINELS, SIZES, texts, write_gpt2


@pytest.fixture(scope='module')
def made():
  """(kind, with specials or not) -> tokenizer, each trained once."""
  found = {}

  def make(kind, specials):
    if (kind, specials) not in found:
      found[kind, specials] = kinds.train(
        texts(), SIZES.get(kind), SENTINELS, kind, specials=specials
      )
    return found[kind, specials]

  return make


@pytest.fixture(scope='module')
def bpe():
  return kinds.train(texts(), 320, 0, 'byte_bpe')


@pytest.fixture(scope='module')
def wordpiece():
  return kinds.train(texts(), 200, 0, 'wordpiece')


@pytest.fixture
def gpt2(bpe, tmp_path):
  write_gpt2(bpe, tmp_path)
  return tmp_path


@pytest.fixture
def bert(wordpiece, tmp_path):
  (tmp_path / 'vocab.txt').write_text('\n'.join(wordpiece.pieces) + '\n')
  return tmp_path
