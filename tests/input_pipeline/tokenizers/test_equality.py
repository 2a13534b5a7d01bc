"""Ids equal those of reference tokenizers, on real and on odd text."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from input_pipeline.sources import documentation
from input_pipeline.tokenizers import kinds
from tests.helpers import tokenizer_references as references
from tests.helpers.tokenizers import write_gpt2


@pytest.fixture(scope='module')
def data():
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  return Path(folder)


@pytest.fixture(scope='module')
def lines(data):
  return references.real_lines(data) + references.odd_texts()


def same(tokenizer, lines, reference):
  """Asserts equal ids, for new words and for words seen before."""
  expected = [reference(line) for line in lines]
  for _ in range(2):
    found = tokenizer.encode_batch(lines, threads=2)
    assert len(found) == len(lines)
    for line, ids, wanted in zip(lines, found, expected, strict=True):
      assert ids.dtype == np.int32
      assert ids.tolist() == list(wanted), line
  assert sum(map(len, expected)) > 20 * len(lines)
  return found


def decoded(line):
  return line.decode(errors='replace')


def test_wordpiece(data, lines):
  path = data / 'tok_bert' / 'vocab.txt'
  tokenizer = kinds.load(str(path), 0, 'wordpiece', True)
  pieces = path.read_text().split('\n')[:-1]
  reference = references.Bert(pieces, True)
  found = same(tokenizer, lines, lambda x: reference.encode(decoded(x)))
  transformers = pytest.importorskip('transformers')
  theirs = transformers.BertTokenizer(str(path))
  for line, ids in list(zip(lines, found, strict=True))[::9]:
    wanted = theirs(decoded(line), add_special_tokens=False)['input_ids']
    assert ids.tolist() == wanted


def test_wordpiece_cased(data, lines, tmp_path):
  """A vocabulary with capitals gives the ids of BERT's code."""
  pieces = (data / 'tok_bert' / 'vocab.txt').read_text().split('\n')[:-1]
  pieces += [p.capitalize() for p in pieces if p.isalpha() and p.isascii()]
  pieces += ['É', '##É', 'ș', 'ț', 'Ș', '##ă', '##ț']
  pieces = list(dict.fromkeys(pieces))
  path = tmp_path / 'vocab.txt'
  path.write_text('\n'.join(pieces) + '\n')
  tokenizer = kinds.load(str(path), 0, 'wordpiece')
  reference = references.Bert(pieces, False)
  few = lines[::3]
  same(tokenizer, few, lambda line: reference.encode(decoded(line)))


def test_gpt2(data, lines):
  folder = data / 'tok_gpt2'
  tokenizer = kinds.load(str(folder), 0, 'byte_bpe')
  reference = references.Gpt2(folder)
  ids = same(tokenizer, lines, lambda line: reference.encode(decoded(line)))
  for line, found in zip(lines, ids, strict=True):
    assert tokenizer.decode(found) == decoded(line)


def test_roberta(data, lines, tmp_path):
  for name in ('encoder.json', 'vocab.bpe'):
    shutil.copyfile(data / 'tok_gpt2' / name, tmp_path / name)
  rows = (data / 'tok_roberta' / 'dict.txt').read_text().split('\n')[:50260]
  (tmp_path / 'dict.txt').write_text('\n'.join(rows) + '\n')
  tokenizer = kinds.load(str(tmp_path), 0, 'byte_bpe')
  reference = references.Roberta(tmp_path)
  few = lines[::5]
  same(tokenizer, few, lambda line: reference.encode(decoded(line)))
  # The published ids (fairseq, 'Hello world!'), and the table's size.
  [ids] = tokenizer.encode_batch([b'Hello world!'])
  assert ids.tolist() == [31414, 232, 328]
  assert tokenizer.size == 50265
  special = tokenizer.cls, tokenizer.pad, tokenizer.sep, tokenizer.unk
  assert (*special, tokenizer.mask) == (0, 1, 2, 3, 50264)


@pytest.mark.parametrize(
  ('file', 'kind'),
  [
    ('tok_t5/t5_cc_all_derived_32100.model', 'unigram'),
    ('tok_mistral/tokenizer.mistral-v1', 'bpe'),
  ],
)
def test_sentencepiece(data, lines, file, kind):
  path = str(data / file)
  tokenizer = kinds.load(path, 0, kind)
  processor = sentencepiece.SentencePieceProcessor(model_file=path)
  same(tokenizer, lines, processor.encode)


def test_bytes(lines):
  tokenizer = kinds.train([], 0, 100, 'bytes')
  ids = same(tokenizer, lines, lambda line: [b + 3 for b in line])
  for line, found in zip(lines, ids, strict=True):
    assert tokenizer.decode(found) == decoded(line)


@pytest.fixture(scope='module')
def documents():
  return [text.decode() for text in documentation.documents()[:200]]


@pytest.mark.parametrize('kind', ['wordpiece', 'byte_bpe'])
def test_without_published_files(documents, kind, tmp_path):
  """A vocabulary trained on installed documentation reads odd texts alike."""
  lines = [text.encode() for text in documents[:20]] + references.odd_texts()
  texts = [*documents, *references.ODD * 50]  # pieces of odd characters too
  tokenizer = kinds.train(texts, 1500, 0, kind)
  if kind == 'wordpiece':
    reference = references.Bert(tokenizer.pieces, False)
  else:
    write_gpt2(tokenizer, tmp_path)
    reference = references.Gpt2(tmp_path)
  same(tokenizer, lines, lambda line: reference.encode(decoded(line)))
