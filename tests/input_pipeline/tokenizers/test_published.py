"""Published files: how they are found and read; the case of a vocabulary."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.sources import paths
from input_pipeline.tokenizers import json_format, kinds
from tests.helpers.corpora import data_config
from tests.helpers.tokenizers import texts


def test_names_of_files(gpt2, bert, bpe, wordpiece):
  """Published names of folders and files are read; also Windows' line ends."""
  assert kinds.load(str(gpt2), 0, 'byte_bpe').model == bpe.model
  (gpt2 / 'encoder.json').rename(gpt2 / 'vocab.json')
  (gpt2 / 'vocab.bpe').rename(gpt2 / 'merges.txt')
  assert kinds.load(str(gpt2), 0, 'byte_bpe').model == bpe.model
  for path in bert, bert / 'vocab.txt', bert / 'my-bert.txt':
    if not path.exists():
      lines = (bert / 'vocab.txt').read_bytes().replace(b'\n', b'\r\n')
      path.write_bytes(lines)
    loaded = kinds.load(str(path), 0, 'wordpiece')
    assert loaded.model == wordpiece.model


def test_remote_folder(gpt2, bpe):
  """TensorFlow's filesystem stands for gs://."""
  tf = pytest.importorskip('tensorflow')
  for name in ('encoder.json', 'vocab.bpe'):
    tf.io.gfile.copy(str(gpt2 / name), f'ram://gpt2/{name}', overwrite=True)
  for folder in 'ram://gpt2', 'ram://gpt2/':
    with paths.local(folder) as copy:
      assert kinds.load(copy, 0, 'byte_bpe').model == bpe.model
    assert not os.path.exists(copy)


def test_roberta(gpt2, bpe):
  order = np.random.default_rng(0).permutation(bpe.size).tolist()
  rows = [f'{i} {9 - n}' for n, i in enumerate(order[:9])]
  rows += [f'{i} 0' for i in order[9:]] + ['madeupword0000 0']
  (gpt2 / 'dict.txt').write_text('\n'.join(rows) + '\n')
  tokenizer = kinds.load(str(gpt2), 3, 'byte_bpe')
  assert tokenizer.size == 4 + bpe.size + 1 + 1 + 3
  assert tokenizer.mask == 4 + bpe.size + 1
  assert tokenizer.pieces[:4] == ['<s>', '<pad>', '</s>', '<unk>']
  assert tokenizer.sentinels.tolist() == [tokenizer.mask + n for n in (3, 2, 1)]
  assert tokenizer.specials == (
    0,
    1,
    2,
    3,
    *range(tokenizer.mask, tokenizer.size),
  )
  sample = [text.encode() for text in texts(20)]
  for mine, theirs in zip(
    tokenizer.encode_batch(sample), bpe.encode_batch(sample), strict=True
  ):
    assert mine.tolist() == [4 + order.index(i) for i in theirs]
    assert tokenizer.decode(mine) == bpe.decode(theirs)
  # A file that a workdir keeps needs neither dictionary nor merges beside it.
  kinds.save(tokenizer, str(gpt2 / 'kept' / 'tokenizer.json'))
  kept = kinds.load(str(gpt2 / 'kept'), 3, 'byte_bpe')
  assert kept.fingerprint == tokenizer.fingerprint


def test_uncased_vocabulary(tmp_path):
  path = tmp_path / 'vocab.txt'
  path.write_text('[PAD]\n[UNK]\na\nb\n##b\n')
  with pytest.raises(ValueError, match=r'no capital letter.*data\.lowercase'):
    kinds.load(str(path), 0, 'wordpiece')
  tokenizer = kinds.load(str(path), 0, 'wordpiece', True)
  assert tokenizer.encode_batch([b'AB a'])[0].tolist() == [2, 4, 2]


CASED = ['[PAD]', '[UNK]', 'a', 'Paris', '##A', *'AB']


@pytest.mark.parametrize(
  ('pieces', 'lowercase', 'message'),
  [
    (
      CASED,
      True,
      r'is cased \(4 of its pieces have capital.*: set it to False',
    ),
    ([*CASED, 'É', '東', 'я'], True, 'is cased'),  # as the multilingual one
    (CASED, False, None),
    # Special tokens have capitals everywhere; other alphabets do not count.
    (['[PAD]', '[UNK]', '<S>', '[unused1]', 'a', 'Я'], True, None),
    (['[PAD]', '[UNK]', '<S>', '[unused1]', 'a', 'Я'], False, 'is uncased'),
    # Someone added a few pieces, such as @USER, to an uncased vocabulary.
    (['[PAD]', '[UNK]', *map(chr, range(0x4E00, 0x4F00)), '@USER'], True, None),
    (['[PAD]', '[UNK]', *map(chr, range(0x4E00, 0x4F00))], False, None),
  ],
)
def test_case_of_a_vocabulary(pieces, lowercase, message, tmp_path):
  path = tmp_path / 'vocab.txt'
  path.write_text('\n'.join(pieces))
  if not message:
    kinds.load(str(path), 0, 'wordpiece', lowercase)
    return
  with pytest.raises(ValueError, match=f'{path}.*{message}') as error:
    kinds.load(str(path), 0, 'wordpiece', lowercase)
  assert f'data.lowercase={lowercase}' in str(error.value)


def test_settings_beside_a_vocabulary_give_its_case(tmp_path):
  path, config = tmp_path / 'vocab.txt', tmp_path / 'tokenizer_config.json'
  path.write_text('\n'.join(CASED))
  config.write_text('{"do_lower_case": true}')
  kinds.load(str(path), 0, 'wordpiece', True)
  with pytest.raises(ValueError, match=r'uncased \(do_lower_case in tokenizer'):
    kinds.load(str(path), 0, 'wordpiece', False)
  ids = {piece: i for i, piece in enumerate(CASED)}
  whole = json_format.wordpiece(ids, True)
  (tmp_path / 'tokenizer.json').write_text(json.dumps(whole))
  kinds.load(str(tmp_path), 0, 'wordpiece', True)
  with pytest.raises(ValueError, match=r'uncased \(its normalizer says so'):
    kinds.load(str(tmp_path), 0, 'wordpiece', False)
  config.write_text('{"do_lower_case": false}')
  with pytest.raises(ValueError, match='do_lower_case=False, but tokenizer.js'):
    kinds.load(str(tmp_path), 0, 'wordpiece', True)


@pytest.mark.parametrize(
  ('files', 'name', 'kind', 'message'),
  [
    (
      (),
      'no',
      'wordpiece',
      r"tokenizer='.*no' cannot be read.*vocab.txt or tok",
    ),
    (
      (),
      '',
      'unigram',
      r'holds no tokenizer .*unigram.*\*\.model or tokenizer\.json\): set',
    ),
    (
      ('vocab.txt',),
      '',
      'byte_bpe',
      "encoder.json with.* but one of 'wordpiece'",
    ),
    (('x.model',), '', 'wordpiece', "but one of 'unigram'"),
    (
      ('x.model',),
      'x.model',
      'bytes',
      "'unigram' or 'bpe', but the config says 'bytes'",
    ),
    (('vocab.txt',), 'vocab.txt', 'bpe', "of data.tokenizer_kind 'wordpiece'"),
    (('vocab.bpe',), 'vocab.bpe', 'byte_bpe', 'name their folder'),
    (('encoder.json',), 'encoder.json', 'wordpiece', 'name their folder'),
    (('a.model', 'b.model'), '', 'bpe', 'several models: .* a.model, b.model'),
    (('x.bin',), 'x.bin', 'wordpiece', 'must be vocab.txt or tokenizer.json'),
  ],
)
def test_other_files(tmp_path, files, name, kind, message):
  for file in files:
    (tmp_path / file).write_text('x')
  with pytest.raises(ValueError, match=message):
    kinds.load(str(tmp_path / name), 0, kind)


def test_another_kind(tmp_path, bpe, wordpiece):
  for tokenizer, kind in (
    (bpe, 'byte_bpe'),
    (wordpiece, 'wordpiece'),
    (kinds.train([], 0, 3, 'bytes'), 'bytes'),
  ):
    path = tmp_path / 'tokenizer.json'
    kinds.save(tokenizer, str(path))
    for other in {'byte_bpe', 'wordpiece', 'bytes'} - {kind}:
      message = f"tokenizer_kind='{kind}', but the config says '{other}'"
      with pytest.raises(ValueError, match=message):
        kinds.load(str(path), 0, other)
  model = kinds.train(texts(), 90, 0, 'unigram').model
  (tmp_path / 'some.model').write_bytes(model)
  with pytest.raises(
    ValueError, match=r"unigram model, but .*'bpe': set it to"
  ):
    kinds.load(str(tmp_path), 0, 'bpe')
  (tmp_path / 'some.model').write_bytes(model[: len(model) // 2])
  with pytest.raises(
    ValueError, match=r'some\.model is not a SentencePiece model'
  ):
    kinds.load(str(tmp_path), 0, 'unigram')


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'tokenizer_kind': 'wordpeace'}, r"did you mean 'wordpiece'\?"),
    ({'tokenizer_kind': 'byte-bpe'}, r"did you mean 'byte_bpe'\?"),
    ({'lowercase': True}, "tokenizer_kind='unigram' does not read it"),
  ],
)
def test_config(values, message):
  with pytest.raises(ValueError, match=message):
    data_config(**values)


def test_published(tmp_path):
  """Sizes and special ids are as published; BERT's two files are equal."""
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  data = Path(folder)
  bert = kinds.load(str(data / 'tok_bert'), 0, 'wordpiece', True)
  file = str(data / 'tok_bert' / 'tokenizer.json')
  other = kinds.load(file, 0, 'wordpiece', True)
  assert bert.fingerprint == other.fingerprint
  assert bert.size == 30522
  assert (bert.pad, bert.unk, bert.cls, bert.sep, bert.mask) == (
    *(0, 100, 101, 102, 103),
  )
  gpt2 = kinds.load(str(data / 'tok_gpt2'), 0, 'byte_bpe')
  assert (gpt2.size, gpt2.eos, gpt2.pad) == (50257, 50256, 50256)
  assert gpt2.encode_batch([b'Hello world'])[0].tolist() == [15496, 995]
  llama = str(data / 'tok_mistral' / 'tokenizer.mistral-v1')
  llama = kinds.load(llama, 0, 'bpe')
  assert (llama.unk, llama.bos, llama.eos, llama.pad) == (0, 1, 2, 1)
  text = 'a  b\n\t汉字 \U0001f9ff'
  assert llama.decode(llama.encode_batch([text.encode()])[0]) == text
  t5 = str(data / 'tok_t5' / 't5_cc_all_derived_32100.model')
  with pytest.raises(ValueError, match="SentencePiece unigram model.*'bpe'"):
    kinds.load(t5, 100, 'bpe')
  # dict.txt without the files that it orders.
  shutil.copyfile(data / 'tok_roberta' / 'dict.txt', tmp_path / 'dict.txt')
  with pytest.raises(ValueError, match='holds no tokenizer of .*byte_bpe'):
    kinds.load(str(tmp_path), 0, 'byte_bpe')
