"""Training: the library's merges, the same bytes each time, the command."""

import os
import random
import subprocess
import sys

import pytest

from input_pipeline import tokenizing
from input_pipeline.choices import TOKENIZERS
from input_pipeline.sources import documentation
from input_pipeline.tokenizers import json_format, kinds, merges, subwords
from tests.helpers import REPOSITORY
from tests.helpers.corpora import data_config
from tests.helpers.tokenizers import SIZES, texts


@pytest.fixture(scope='module')
def documents():
  return [text.decode() for text in documentation.documents()[:100]]


def test_merges_are_the_librarys(documents):
  """Byte-level BPE learns the same pieces and merges in the same order."""
  library = subwords.library()
  reference = library.Tokenizer(library.models.BPE())
  split = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
  reference.pre_tokenizer = split
  trainer = library.trainers.BpeTrainer(
    vocab_size=1500, initial_alphabet=split.alphabet(), show_progress=False,
    special_tokens=['<s>'],
  )  # fmt: skip
  reference.train_from_iterator(documents, trainer)
  theirs = reference.get_vocab()
  words = merges.count_words(documents, json_format.byte_bpe({}, []))
  first = ['<s>', *sorted(json_format.byte_characters())]
  pieces, pairs = merges.learn(words, first, 1500, '')
  assert {piece: i for i, piece in enumerate(pieces)} == theirs
  assert len(pairs) >= 1500 - 257
  backwards = dict(reversed(words.items()))
  assert merges.learn(backwards, first, 1500, '') == (pieces, pairs)


def test_long_words_teach_merges():
  """Chinese has no spaces: a clause is one word, three bytes a character."""
  library = subwords.library()
  letters = [chr(0x4E00 + 7 * n) for n in range(40)]
  rng = random.Random(0)
  lines = [''.join(rng.choices(letters, k=60)) for _ in range(30)]
  split = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
  reference = library.Tokenizer(library.models.BPE())
  reference.pre_tokenizer = split
  trainer = library.trainers.BpeTrainer(
    vocab_size=360, initial_alphabet=split.alphabet(), show_progress=False
  )
  reference.train_from_iterator(lines, trainer)
  mine = kinds.train(lines, 361, 0, 'byte_bpe')
  assert {*mine.pieces} - {'<|endoftext|>'} == {*reference.get_vocab()}
  for ids in mine.encode_batch(lines):
    assert len(ids) <= 60  # a letter is a piece, not three


def test_very_long_words_are_cut_between_characters():
  content = json_format.byte_bpe({}, [])
  words = merges.count_words(['é' * 1501 + ' ' + '汉' * 700], content)
  count = {'Ã©': 1501, 'æ±ī': 700}
  for letter, number in count.items():
    found = {w: n for w, n in words.items() if letter in w}
    assert all(len(w) <= merges.PART for w in found)
    assert sum(w.count(letter) * n for w, n in found.items()) == number
    lengths = {len(w.removeprefix('Ġ')) % len(letter) for w in found}
    assert lengths == {0}
  wordpiece = json_format.wordpiece({'[UNK]': 0}, False)
  assert merges.count_words(['a' * 101 + ' b'], wordpiece) == {'b': 1}


def test_wordpiece_has_the_librarys_pieces(documents):
  """The library's trainer gives other ids each time, but similar pieces."""
  library = subwords.library()
  reference = library.Tokenizer(library.models.WordPiece(unk_token='[UNK]'))
  reference.normalizer = library.normalizers.BertNormalizer(lowercase=True)
  reference.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
  trainer = library.trainers.WordPieceTrainer(
    vocab_size=1500, show_progress=False, special_tokens=list(merges.BERT)
  )
  reference.train_from_iterator(documents, trainer)
  mine = kinds.train(documents, 1500, 0, 'wordpiece', lowercase=True)
  common = reference.get_vocab().keys() & {*mine.pieces}
  assert len(common) > 0.97 * 1500
  assert mine.pieces[:5] == ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']


def test_learn():
  """The most frequent pair is first; ties go to the lowest ids."""
  pieces, pairs = merges.learn(
    {'abab': 5, 'cab': 1, 'xx': 6}, list('abcx'), 9, ''
  )
  assert pairs[:2] == [('a', 'b'), ('x', 'x')]  # 11 and 6 times
  assert pieces == ['a', 'b', 'c', 'x', 'ab', 'xx', 'abab', 'cab']
  pieces, _ = merges.learn({'aaa': 2}, ['a', '##a'], 9, '##')
  assert pieces == ['a', '##a', 'aa', 'aaa']


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('kind', TOKENIZERS)
def test_the_same_bytes(kind, masks):
  first, second = (
    kinds.train(iter(texts()), SIZES.get(kind), 5, kind, specials=masks)
    for _ in range(2)
  )
  assert first.model == second.model
  assert first.fingerprint == second.fingerprint
  others = kinds.train(texts()[:200], SIZES.get(kind), 5, kind, specials=masks)
  assert (first.fingerprint == others.fingerprint) == (kind == 'bytes')


def test_in_other_processes(tmp_path):
  """Training gives the same bytes in another process.

  Hash tables have another order there.
  """
  program = """
from input_pipeline.tokenizers import kinds
from tests.helpers.tokenizers import SIZES, texts
for kind in ('bpe', 'wordpiece', 'byte_bpe'):
  print(kinds.train(texts(), SIZES[kind], 5, kind).fingerprint)
"""
  found = [
    subprocess.run(
      [sys.executable, '-c', program],
      cwd=REPOSITORY, env={'PYTHONHASHSEED': seed}, text=True, timeout=120,
      capture_output=True, check=True,
    ).stdout
    for seed in '12'
  ]  # fmt: skip
  assert found[0] == found[1]
  assert found[0].count('\n') == 3


@pytest.mark.parametrize(
  ('kind', 'size', 'message'),
  [
    ('wordpiece', 9, r'model\.vocab_size=9 \(4 of them.*is too small'),
    ('byte_bpe', 260, r'model\.vocab_size=260 .* alone are 261'),
    ('wordpiece', 5000, r'No vocabulary of model\.vocab_size=5000.*more text'),
    ('byte_bpe', 5000, 'only one of .*: give more text or a smaller'),
    ('bpe', 200, r'model\.vocab_size=200.*SentencePiece says'),
  ],
)
def test_impossible_sizes(kind, size, message):
  with pytest.raises(ValueError, match=message):
    kinds.train(texts(50), size, 4, kind)


@pytest.mark.parametrize('kind', ['wordpiece', 'byte_bpe', 'unigram'])
def test_odd_documents(kind):
  """Training works with one word, a very long word, nothing, and NULs."""
  odd = ['', 'word', 'x' * 100_000, '\0' * 999, 'a\0b', ' \n ', '\u200d']
  tokenizer = kinds.train([*odd, *texts()], SIZES.get(kind) + 90, 0, kind)
  ids = tokenizer.encode_batch([text.encode() for text in odd])
  assert [len(i) > 0 for i in ids[1:3]] == [True, True]
  if kind == 'byte_bpe':
    assert [tokenizer.decode(i) for i in ids] == odd


def test_synthetic_text():
  with pytest.raises(ValueError, match="'synthetic' has no text"):
    tokenizing.train(data_config(), 0, 300)


def command(*flags):
  process = [sys.executable, '-m', 'input_pipeline.train_tokenizer', *flags]
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(
    process, cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    timeout=120,
  )  # fmt: skip


def test_command(tmp_path):
  """The command writes a file for data.tokenizer; a mistake is one line."""
  (tmp_path / 'text').write_text('\n\n'.join(texts()))
  flags = (
    '--config=configs/t5.py:tiny',
    f'--config.data.source=text:{tmp_path}/text',
    '--config.data.tokenizer_kind=wordpiece',
    '--config.data.sentinels=5',
    '--config.model.vocab_size=200',
  )
  path = tmp_path / 'new' / 'mine.json'
  done = command(*flags, f'--out={path}')
  assert done.returncode == 0, done.stderr
  assert 'wordpiece: 200 ids' in done.stdout
  assert 'mask 4 ([MASK])' in done.stdout
  loaded = kinds.load(str(path), 5, 'wordpiece')
  assert loaded.size == 200
  assert loaded.fingerprint in done.stdout
  done = command(*flags, f'--out={path}')
  assert done.returncode == 1
  assert (
    done.stderr
    == f'Error: --out={path} exists: name another file, or delete it.\n'
  )


def test_impossible_outputs(tmp_path):
  """The function runs in this process, which is faster than the command."""
  from configs import t5
  from input_pipeline import train_tokenizer

  config = t5.get_config('tiny')
  with pytest.raises(ValueError, match=r'a\.json must end in \.model'):
    train_tokenizer.run(config, str(tmp_path / 'a.json'))
  config.data.tokenizer = 'x.model'
  with pytest.raises(ValueError, match=r"data\.tokenizer='x.model' is a tok"):
    train_tokenizer.run(config, str(tmp_path / 'a.model'))
  config.data.tokenizer = ''
  with pytest.raises(ValueError, match='must be a local file'):
    train_tokenizer.run(config, 'gs://bucket/a.model')
  config.data.tokenizer_kind = 'bytes'
  with pytest.raises(ValueError, match='needs no training'):
    train_tokenizer.run(config, str(tmp_path / 'a.json'))


def test_documents_that_cannot_be_read(tmp_path, capsys):
  """A few are reported; many are an error with the place of the first."""
  from configs import t5
  from input_pipeline import train_tokenizer

  config = t5.get_config('tiny')
  config.data.source = f'text:{tmp_path}/text'
  config.data.sentinels, config.model.vocab_size = 5, 120
  parts = [text.encode() for text in texts()]
  (tmp_path / 'text').write_bytes(b'\n\n'.join([b'\xe9t\xe9', *parts]))
  config.data.max_bad_share = 0.001
  train_tokenizer.run(config, str(tmp_path / 'a.model'))
  said = capsys.readouterr().out
  assert ' documents were left out' in said
  assert 'text, line 1: not UTF-8' in said
  (tmp_path / 'text').write_bytes(b'\n\n'.join([b'\xe9t\xe9'] * 9))
  with pytest.raises(
    ValueError, match='9 of 9 documents are unreadable.*UTF-8'
  ):
    train_tokenizer.run(config, str(tmp_path / 'b.model'))


def test_no_document_can_be_read(tmp_path):
  """The error names the first one and its fault, not only "no text"."""
  (tmp_path / 'a.json').write_text('{"content": "x"}\n' * 3)
  config = data_config(source=f'json:{tmp_path}/a.json')
  message = r'^3 of 3 documents cannot be read\..*a\.json, line 1: no text: '
  with pytest.raises(ValueError, match=message):
    tokenizing.prepare(config, 0, 300, None)
  (tmp_path / 'a.json').write_text('1\ta table\n2\tof text\n')
  message = r'^2 of 2 documents cannot be read\..*a\.json, line 1: not JSON'
  with pytest.raises(ValueError, match=message):
    tokenizing.prepare(config, 0, 300, None)


def test_long_lines_are_cut_into_parts():
  """The trainer accepts at most 4,192 bytes in a line."""
  signs = [chr(0x4E00 + n) for n in range(60)]
  line = ''.join(signs[n * 7 % 60] for n in range(20_000))
  tokenizer = kinds.train(['a few words', line], 80, 5)
  assert sum(tokenizer.piece(i) in signs for i in range(80)) > 50
