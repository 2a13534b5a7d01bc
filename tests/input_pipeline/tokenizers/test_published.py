"""Published files: how they are read, and errors that name a bad one."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import tokenizing
from input_pipeline.sources import paths
from input_pipeline.tokenizers import json_format, kinds
from tests.helpers.corpora import data_config
from tests.input_pipeline.objectives.test_masking import make_config
from tests.input_pipeline.tokenizers.test_equality import write_gpt2
from tests.input_pipeline.tokenizers.test_kinds import texts


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


def edit(path, old, new, count=1):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, count))


@pytest.mark.parametrize(
  ('file', 'old', 'new', 'message'),
  [
    ('encoder.json', '{', '[', 'encoder.json is not JSON'),
    ('encoder.json', '"!": 0', '"!": 1', 'must count from 0|there twice'),
    ('encoder.json', '"!": 0', '"!": "0"', "'!' has id '0'"),
    ('encoder.json', '"!": 0', '"!!": 0', "no piece '!' for byte 33"),
    (
      'vocab.bpe',
      '#version',
      'version',
      "'version: 0.2' is not a pair",
    ),
    ('vocab.bpe', '\n', '\na b c\n', "line 2: 'a b c' is not a pair of pieces"),
    (
      'vocab.bpe',
      '\n',
      '\n! !\n',
      "line 2: '! !' is not a pair of pieces",
    ),
  ],
)
def test_edited_bpe(gpt2, file, old, new, message):
  edit(gpt2 / file, old, new)
  with pytest.raises(ValueError, match=message):
    kinds.load(str(gpt2), 0, 'byte_bpe')


def test_short_bpe(gpt2):
  for name in 'encoder.json', 'vocab.bpe':
    whole = (gpt2 / name).read_text()
    (gpt2 / name).write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f'{name} .*cut short. Fetch it again'):
      kinds.load(str(gpt2), 0, 'byte_bpe')
    (gpt2 / name).write_text(whole)
  (gpt2 / 'vocab.bpe').write_text('\n'.join(whole.split('\n')[:20]) + '\n')
  with pytest.raises(ValueError, match='makes .* more of the pieces in enc'):
    kinds.load(str(gpt2), 0, 'byte_bpe')


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    (['0 5', '1 4'], "lacks 318 of GPT-2's ids, the first 2"),
    (
      ['0 5', '0 4'],
      "line 2: '0 4' is not one of GPT-2's ids",
    ),
    (['999999 5'], 'dict.txt, line 1'),
    (['0'], 'dict.txt, line 1'),
  ],
)
def test_edited_dictionary(gpt2, rows, message):
  (gpt2 / 'dict.txt').write_text('\n'.join(rows))
  with pytest.raises(ValueError, match=message):
    kinds.load(str(gpt2), 0, 'byte_bpe')


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('\n[UNK]\n', '\n', r'vocab.txt has no \[UNK\], which WordPiece needs'),
    ('[CLS]\n', '[CLS]\n\n', 'vocab.txt, line 4 is empty'),
    ('[CLS]\n', '[CLS]\n[PAD]\n', r"vocab.txt, line 4 is '\[PAD\]' again"),
  ],
)
def test_edited_vocabulary(bert, old, new, message):
  edit(bert / 'vocab.txt', old, new)
  with pytest.raises(ValueError, match=message):
    kinds.load(str(bert), 0, 'wordpiece')


def test_vocabulary_that_is_not_text(bert):
  (bert / 'vocab.txt').write_bytes(b'[PAD]\n\xff\n')
  with pytest.raises(ValueError, match=r'vocab.txt is not UTF-8'):
    kinds.load(str(bert), 0, 'wordpiece')


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
  ('edited', 'message'),
  [
    (lambda c: c.pop('model'), 'has no model with a vocabulary'),
    (lambda c: c['model'].update(vocab=3), 'has no model with a vocabulary'),
    (
      lambda c: c['model'].update(type='WordLevel'),
      'of type WordLevel, which no data.tokenizer_kind reads',
    ),
    (lambda c: c['model'].update(dropout=0.1), 'dropout=0.1 gives other ids'),
    (lambda c: c['model']['merges'].append(['q', 'zz']), 'tokenizers library'),
    (lambda c: c['model']['vocab'].pop('!'), "no piece '!' for byte 33"),
    (lambda c: c['model']['vocab'].update(new=999), 'id 320 is missing'),
    (lambda c: c['model']['vocab'].update(new=3), 'id 4 is there twice|id'),
    (lambda c: c['model']['vocab'].update(new='3'), 'tokens without a number'),
    (lambda c: c['added_tokens'].append({}), 'tokens without a number'),
    (
      lambda c: c.update(pre_tokenizer={'type': 'X'}),
      'tokenizers library reads',
    ),
  ],
)
def test_edited_tokenizer_json(bpe, tmp_path, edited, message):
  content = json.loads(bpe.model)
  edited(content)
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message) as error:
    kinds.load(str(path), 0, 'byte_bpe')
  assert str(path) in str(error.value)
  path.write_text(json.dumps(content)[:-30])
  with pytest.raises(ValueError, match='is not JSON .*Fetch it again'):
    kinds.load(str(path), 0, 'byte_bpe')


def test_added_tokens_that_are_text(bpe, tmp_path):
  """Some models add tokens for runs of spaces, which a text may have."""
  content = json.loads(bpe.model)
  flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'special'), False)
  content['added_tokens'] += [
    {'id': 320, 'content': '    ', 'normalized': True} | flags,
    {'id': 321, 'content': '<|im_start|>', 'normalized': False}
    | flags
    | {'special': True},
  ]
  (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
  tokenizer = kinds.load(str(tmp_path), 2, 'byte_bpe')
  assert tokenizer.size == 324
  [ids] = tokenizer.encode_batch([b'a    b <|im_start|>'])
  assert 320 in ids
  assert 321 not in ids
  assert tokenizer.decode(ids) == 'a    b <|im_start|>'
  assert tokenizer.byte_lengths()[ids].sum() == 19
  kinds.save(tokenizer, str(tmp_path / 'again' / 'tokenizer.json'))
  again = kinds.load(str(tmp_path / 'again'), 2, 'byte_bpe')
  assert again.model == tokenizer.model


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
  ('objective', 'names'),
  [
    ('mlm', '<s>, </s>, <mask>, but .*lacks <s>, </s>, <mask>'),
    ('causal', r'an end of text \(EOS\)'),
  ],
)
def test_missing_special_tokens(gpt2, tmp_path, objective, names):
  edit(gpt2 / 'encoder.json', '<|endoftext|>', '<|other|>')
  config = make_config(
    objective, source='docs', tokenizer=str(gpt2), tokenizer_kind='byte_bpe'
  )
  folder = tmp_path / 'run'
  folder.mkdir()
  message = rf"data\.objective='{objective}' needs {names}"
  with pytest.raises(ValueError, match=message):
    tokenizing.prepare(config, 0, 320, str(folder))
  assert os.listdir(folder) == []


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
