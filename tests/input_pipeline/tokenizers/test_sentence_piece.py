"""SentencePiece: T5's sentinels, training, vocabularies that do not fit."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from input_pipeline.tokenizers import kinds, sentence_piece
from input_pipeline.tokenizers.interface import check_size
from input_pipeline.tokenizers.numbers import Numbers


def texts(count=600):
  """Sentences of words of one to three syllables."""
  rng = np.random.default_rng(0)
  syllables = [a + b for a in 'bdfgklmnprst' for b in 'aeiou']
  return [
    ' '.join(
      ''.join(rng.choice(syllables, size=rng.integers(1, 4))) for _ in range(12)
    )
    for _ in range(count)
  ]


@pytest.fixture(scope='module')
def trained():
  return kinds.train(texts(), vocab_size=80, sentinels=10)


@pytest.fixture
def published():
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  return Path(folder) / 'tok_t5' / 't5_cc_all_derived_32100.model'


def test_trained(trained):
  assert (trained.pad, trained.eos, trained.unk) == (0, 1, 2)
  assert trained.size == 80
  assert trained.sentinels.tolist() == list(range(79, 69, -1))
  again = kinds.train(texts(), vocab_size=80, sentinels=10)
  assert again.model == trained.model
  assert trained.fingerprint == hashlib.sha256(trained.model).hexdigest()


@pytest.mark.parametrize('threads', [1, 3])
def test_encode_and_decode(trained, threads):
  sample = texts(50)
  ids = trained.encode_batch([t.encode() for t in sample], threads)
  assert all(i.dtype == np.int32 for i in ids)
  assert [trained.decode(i) for i in ids] == sample
  with_sentinel = [0, *ids[0][:3], trained.sentinels[0], 1, 0]
  assert trained.decode(with_sentinel).endswith('<extra_id_0>')


def test_too_little_text():
  with pytest.raises(ValueError, match=r'model\.vocab_size=5000.*data\.source'):
    kinds.train(texts(20), vocab_size=5000, sentinels=100)


def test_saved_model_loads_with_the_same_ids(trained, tmp_path):
  path = tmp_path / 'new' / 'tokenizer.model'
  kinds.save(trained, str(path))
  assert os.listdir(path.parent) == ['tokenizer.model']
  loaded = kinds.load(str(path), sentinels=10)
  assert loaded.fingerprint == trained.fingerprint
  assert loaded.sentinels.tolist() == trained.sentinels.tolist()


def test_a_folder_that_cannot_be_written(trained, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='tokenizer cannot be written.*--workdir'):
    kinds.save(trained, str(tmp_path / 'file' / 'tokenizer.model'))


def test_a_full_disk(trained, tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(OSError, match='No space left.*Free some space'):
    kinds.save(trained, str(tmp_path / 'tokenizer.model'))
  assert os.listdir(tmp_path) == []


def test_not_a_model(tmp_path):
  path = tmp_path / 'bad.model'
  with pytest.raises(ValueError, match=r"data\.tokenizer='.*bad.model'.*read"):
    kinds.load(str(path), 100)
  for content in b'', b'not a model', b'\n\xff\xff':
    path.write_bytes(content)
    with pytest.raises(ValueError, match='is not a SentencePiece model'):
      kinds.load(str(path), 100)


def test_another_size(trained):
  check_size(trained, 80)
  check_size(trained, 80 + 1023)
  for rows in 79, 80 + 1024:
    with pytest.raises(ValueError, match=f'80 pieces.*vocab_size={rows}'):
      check_size(trained, rows)


def test_too_few_sentinels(trained):
  with pytest.raises(ValueError, match=r'10 <extra_id_N>.*data\.sentinels=100'):
    sentence_piece.SentencePiece(trained.model, 100, 'some.model')


def test_no_pad():
  """A decoder then starts with BOS, as LLaMA's, or else with EOS."""
  for bos, pad in (1, 1), (-1, 2):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(texts()), model_writer=model, vocab_size=60,
      minloglevel=2, bos_id=bos, eos_id=2, unk_id=0,
    )  # fmt: skip
    found = sentence_piece.SentencePiece(model.getvalue(), 10, 'some.model')
    assert (found.pad, found.eos, found.unk) == (pad, 2, 0)
    assert found.bos == (bos if bos > 0 else None)


def test_sentinels_are_added_as_in_t5(published):
  """The published model's extra pieces are removed and added again."""
  proto = pytest.importorskip('sentencepiece.sentencepiece_model_pb2')
  whole = published.read_bytes()
  model = proto.ModelProto.FromString(whole)
  pieces = [p for p in model.pieces if 'extra_id' not in p.piece]
  assert len(pieces) == 32000
  del model.pieces[:]
  model.pieces.extend(pieces)

  added = sentence_piece.SentencePiece(model.SerializeToString(), 100, 'x')
  given = sentence_piece.SentencePiece(whole, 100, 'x')
  assert given.fingerprint == hashlib.sha256(whole).hexdigest()
  assert added.size == given.size == 32100
  assert added.sentinels.tolist() == list(range(32099, 31999, -1))
  assert given.sentinels.tolist() == added.sentinels.tolist()
  back = proto.ModelProto.FromString(added.model)
  for mine, theirs in zip(
    back.pieces[32000:], proto.ModelProto.FromString(whole).pieces[32000:],
    strict=True,
  ):  # fmt: skip
    assert (mine.piece, mine.type) == (theirs.piece, theirs.type)
  line = 'A <extra_id_0> of <extra_id_99> tea, Straße.'
  (mine,), (theirs,) = added.encode_batch([line]), given.encode_batch([line])
  assert mine.tolist() == theirs.tolist()


def test_numbers():
  numbers = Numbers(64, 4)
  assert numbers.sentinels.tolist() == [63, 62, 61, 60]
  assert numbers.decode([5, 63, 7, 1, 0, 0]) == '5 <extra_id_0> 7'
  with pytest.raises(ValueError, match=r'model\.vocab_size=64'):
    Numbers(64, 60)
