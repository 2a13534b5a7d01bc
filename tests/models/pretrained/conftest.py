"""Checkpoints and runs that several tests of published checkpoints use."""

import os

import pytest

from input_pipeline.tokenizers import kinds, subwords
from models import pretrained
from tests.helpers import runs
from tests.helpers.checkpoints import T5, make, recipe
from train import pretrained as command
from train.runs.checkpoint import Checkpoints

# Vocabularies of V ids: one whose EOS is the last id, one like RoBERTa's.
ODD, MASKED = 'odd', 'masked'
V = 280
WORDS = ('abc', 'de', 'fghij')


@pytest.fixture(scope='module')
def published(tmp_path_factory):
  """A T5 with a tokenizer beside it."""
  folder = str(tmp_path_factory.mktemp('published') / 't5')
  tokenizer = subwords.Bytes(10, False)
  pretrained.save(*make(**T5 | {'vocab_size': tokenizer.size}), folder)
  kinds.save(tokenizer, os.path.join(folder, 'tokenizer.json'))
  return folder


@pytest.fixture(scope='module')
def begun(published, tmp_path_factory):
  """The workdir of a run."""
  folder = tmp_path_factory.mktemp('begun')
  source = runs.write_text(folder / 'text')
  config = recipe(source=source, tokenizer_kind='bytes', holdout=10, block=16)
  command.begin(published, config, str(folder / 'run'))
  return str(folder / 'run')


@pytest.fixture
def unread(monkeypatch):
  """Makes reading a weight an error."""

  def never(*_, **__):
    raise AssertionError('weights were read')

  monkeypatch.setattr(pretrained, 'load', never)
  monkeypatch.setattr(Checkpoints, 'restore_arrays', never)


@pytest.fixture(scope='module')
def vocabulary():
  """Vocabularies of 280 ids, by name; only RoBERTa's has padding."""
  texts = [f'{a}{b} {b}{a}' for a in WORDS for b in WORDS] * 9
  made = {
    ODD: kinds.train(texts, V, 0, 'byte_bpe'),
    MASKED: kinds.train(texts, V, 0, 'byte_bpe', specials=True),
  }
  assert (made[ODD].eos, made[ODD].pad) == (V - 1, V - 1)
  assert (made[MASKED].eos, made[MASKED].pad) == (2, 1)
  return made
