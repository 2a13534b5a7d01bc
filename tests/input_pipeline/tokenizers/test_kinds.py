"""Every kind of tokenizer keeps the promises of the interface."""

import concurrent.futures
import json
import os
import threading

import numpy as np
import pytest

from input_pipeline.choices import TOKENIZERS
from input_pipeline.tokenizers import kinds, subwords
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.tokenizers import SENTINELS, SIZES, TEXT, texts


@pytest.fixture(params=[*TOKENIZERS, 'numbers'])
def kind(request):
  return request.param


@pytest.fixture(params=[False, True], ids=['', 'masks'])
def tokenizer(kind, request, made):
  if kind == 'numbers':
    return Numbers(120, SENTINELS, request.param)
  return made(kind, request.param)


def documents(tokenizer, kind):
  if kind == 'numbers':
    return [np.arange(5, 40, dtype=np.int32), np.array([9], np.int32)]
  return [TEXT.encode(), b'', *(text.encode() for text in texts(60))]


def test_ids(tokenizer, kind):
  """Ids are int32 and in range; no text has a special id."""
  for ids in tokenizer.encode_batch(documents(tokenizer, kind)):
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert {*ids.tolist()} & {*tokenizer.specials} <= {tokenizer.unk}
    assert (ids < tokenizer.size).all()


def test_special_ids(tokenizer, kind, request):
  masks = 'masks' in request.node.name
  names = [tokenizer.piece(i) for i in tokenizer.specials]
  assert len(set(names)) == len(names)
  found = (tokenizer.cls, tokenizer.sep, tokenizer.mask)
  if masks or kind == 'wordpiece':
    assert [tokenizer.piece(i) for i in found] == list(tokenizer.masking)
  else:
    assert found == (None, None, None)
  assert 0 <= tokenizer.pad < tokenizer.size
  assert 0 <= tokenizer.eos < tokenizer.size
  assert {tokenizer.pad, tokenizer.eos} <= {*tokenizer.specials}
  last = range(tokenizer.size - 1, tokenizer.size - 1 - SENTINELS, -1)
  assert tokenizer.sentinels.tolist() == list(last)
  assert tokenizer.sentinels.dtype == np.int32
  shown = [tokenizer.piece(i) for i in tokenizer.sentinels]
  assert shown == [f'<extra_id_{n}>' for n in range(SENTINELS)]
  assert list(tokenizer.specials) == sorted({*tokenizer.specials})


@pytest.mark.parametrize(
  ('kind', 'names'),
  [
    ('unigram', '<pad> </s> <unk>'),
    ('bpe', '<pad> </s> <unk> <0x00>'),
    ('wordpiece', '[PAD] [UNK] [CLS] [SEP] [MASK] !'),
    ('byte_bpe', '! " #'),
    ('bytes', '<pad> </s> <unk> <0x00> <0x01>'),
  ],
)
def test_first_pieces(made, kind, names):
  tokenizer = made(kind, False)
  found = [tokenizer.piece(i) for i in range(names.count(' ') + 1)]
  assert found == names.split()


@pytest.mark.parametrize(
  ('kind', 'names'),
  [
    ('unigram', '<pad> </s> <unk> [CLS] [SEP] [MASK]'),
    ('bpe', '<pad> </s> <unk> [CLS] [SEP] [MASK] <0x00>'),
    ('wordpiece', '[PAD] [UNK] [CLS] [SEP] [MASK] !'),
    ('byte_bpe', '<s> <pad> </s> <unk> ! " #'),
  ],
)
def test_first_pieces_with_masks(made, kind, names):
  tokenizer = made(kind, True)
  found = [tokenizer.piece(i) for i in range(names.count(' ') + 1)]
  assert found == names.split()


def test_last_pieces(made):
  """GPT-2's EOS and RoBERTa's mask come last, before the sentinels."""
  place = SIZES['byte_bpe'] - SENTINELS - 1
  gpt2, roberta = made('byte_bpe', False), made('byte_bpe', True)
  assert gpt2.piece(place) == '<|endoftext|>'
  assert {gpt2.eos, gpt2.bos, gpt2.pad} == {place}
  assert gpt2.unk is None
  assert (roberta.piece(place), roberta.mask) == ('<mask>', place)
  ends = roberta.bos, roberta.cls, roberta.eos, roberta.sep
  assert (*ends, roberta.pad) == (0, 0, 2, 2, 1)
  masked = made('bytes', True)
  assert (masked.cls, masked.sep, masked.mask) == (259, 260, 261)
  assert masked.size == 262 + SENTINELS


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('kind', ['bpe', 'byte_bpe', 'bytes'])
def test_round_trip(made, kind, masks):
  """Every byte of a text comes back, also between special ids."""
  tokenizer = made(kind, masks)
  odd = [TEXT, 'a\0b\n\tc  d \r\n', 'né\u0301 \u200d', 'x' * 5000, '</s> <s>']
  for text in [*odd, *texts(20)]:
    [ids] = tokenizer.encode_batch([text.encode()])
    assert tokenizer.decode(ids) == text
    framed = [tokenizer.pad, *ids, tokenizer.eos, tokenizer.pad]
    assert text in tokenizer.decode(framed)
  [broken] = tokenizer.encode_batch([b'a\xff b\xe6\xb1'])
  assert tokenizer.decode(broken).startswith('a\ufffd b\ufffd')


@pytest.mark.parametrize('kind', ['unigram', 'wordpiece'])
def test_decoded_words(made, kind):
  """Words come back; WordPiece joins punctuation to the word before it."""
  tokenizer = made(kind, False)
  for text in texts(20):
    [ids] = tokenizer.encode_batch([text.encode()])
    assert tokenizer.decode(ids) == text


def test_decoded_special_ids(tokenizer, kind):
  word = documents(tokenizer, kind)[-1]
  [word] = tokenizer.encode_batch([word])
  parts = [*word[:1], tokenizer.sentinels[1], *word[:1], tokenizer.eos]
  if tokenizer.mask is not None:
    parts = [tokenizer.cls, *parts, tokenizer.mask, tokenizer.sep]
  decoded = tokenizer.decode(np.array([*parts, tokenizer.pad]))
  assert '<extra_id_1>' in decoded
  for i in (tokenizer.cls, tokenizer.mask, tokenizer.sep):
    assert i is None or tokenizer.piece(i) in decoded
  if tokenizer.eos != tokenizer.sep:
    assert tokenizer.piece(tokenizer.eos) not in decoded
  assert '<pad>' not in decoded
  assert '[PAD]' not in decoded


def test_byte_lengths(tokenizer, kind):
  """Lengths sum to that of the text; special ids have 0."""
  lengths = tokenizer.byte_lengths()
  assert (lengths.dtype, lengths.shape) == (np.int32, (tokenizer.size,))
  assert not lengths[list(tokenizer.specials)].any()
  for text in documents(tokenizer, kind)[2:]:
    [ids] = tokenizer.encode_batch([text])
    spaces = kind in ('unigram', 'bpe', 'wordpiece')  # one before all
    assert lengths[ids].sum() == len(text) + spaces
  if kind == 'numbers':
    assert lengths[[5, 55]].tolist() == [2, 3]
  if kind in ('bpe', 'byte_bpe', 'bytes'):
    [ids] = tokenizer.encode_batch([TEXT.encode()])
    assert lengths[ids].sum() == len(TEXT.encode()) + (kind == 'bpe')


def test_word_starts(tokenizer, kind):
  starts = tokenizer.word_starts
  assert (starts.dtype, starts.shape) == (bool, (tokenizer.size,))
  assert starts[list({*tokenizer.specials} - {tokenizer.unk})].all()
  if kind in ('bytes', 'numbers'):
    assert starts.all() == (kind == 'bytes')
    return
  for text in texts(20):
    [ids] = tokenizer.encode_batch([text.encode()])
    signs = sum(not c.isalnum() for c in text if c != ' ')
    signs += text[-1] == '7' and kind == 'bpe'  # digits stand alone
    words = len(text.split()) + signs * (kind == 'wordpiece')
    # A text's first word has no space before it in byte-level BPE.
    expected = words - (kind == 'byte_bpe')
    assert starts[ids].sum() == expected
  if kind == 'wordpiece':
    assert all(
      starts[i] != p.startswith('##') for i, p in enumerate(tokenizer.pieces)
    )


def test_saved(tokenizer, kind, tmp_path):
  """A workdir's file alone gives the same ids, and the same file again."""
  if kind == 'numbers':
    assert tokenizer.fingerprint
    return
  path = tmp_path / kinds.file_name(kind)
  kinds.save(tokenizer, str(path))
  assert path.name == tokenizer.file
  for place in path, tmp_path:
    loaded = kinds.load(str(place), SENTINELS, kind)
    assert loaded.model == tokenizer.model
    assert loaded.fingerprint == tokenizer.fingerprint
    for name in ('size', 'pad', 'bos', 'eos', 'unk', 'cls', 'sep', 'mask'):
      assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.sentinels.tolist() == tokenizer.sentinels.tolist()
    sample = documents(tokenizer, kind)
    both = loaded.encode_batch(sample), tokenizer.encode_batch(sample)
    for mine, theirs in zip(*both, strict=True):
      np.testing.assert_array_equal(mine, theirs)
  with pytest.raises(ValueError, match=r'7 <extra_id_N>.*data\.sentinels=8'):
    kinds.load(str(path), 8, kind)


@pytest.mark.parametrize('kind', ['wordpiece', 'byte_bpe', 'bytes'])
def test_saved_file_is_the_librarys(made, kind, tmp_path):
  """The tokenizers library reads it and gives the same ids."""
  tokenizer = made(kind, True)
  library = subwords.library().Tokenizer.from_str(tokenizer.model.decode())
  for text in [TEXT, *texts(20)]:
    [ids] = tokenizer.encode_batch([text.encode()])
    assert library.encode(text).ids == ids.tolist()
    if kind != 'wordpiece':
      assert library.decode(ids) == text
  assert library.get_vocab_size() == tokenizer.size
  assert library.token_to_id(tokenizer.masking[2]) == tokenizer.mask


@pytest.mark.parametrize('kind', TOKENIZERS)
def test_special_names_in_a_text(tokenizer):
  """The names of special tokens are ordinary text."""
  names = ' '.join(tokenizer.piece(i) for i in tokenizer.specials)
  names = names.replace('<extra_id_', '<extra-id_')  # SentencePiece reads it
  [ids] = tokenizer.encode_batch([names.encode()])
  assert {*ids.tolist()} & {*tokenizer.specials} <= {tokenizer.unk}


@pytest.mark.parametrize('kind', ['wordpiece', 'byte_bpe'])
def test_threads(made, kind, monkeypatch):
  """Only as many threads run as asked for, and any number gives the same."""
  sample = [text.encode() for text in texts(3000)]
  sample += [f'{text} {n}'.encode() for n, text in enumerate(texts(3000))]
  wanted = made(kind, False).encode_batch(sample)
  pools = []
  executor = concurrent.futures.ThreadPoolExecutor

  def pool(threads):
    pools.append(threads)
    return executor(threads)

  monkeypatch.setattr(concurrent.futures, 'ThreadPoolExecutor', pool)
  for threads in 1, 3:
    monkeypatch.setenv('TOKENIZERS_PARALLELISM', 'true')  # all cores
    content = json.loads(made(kind, False).model)
    fresh = type(made(kind, False))(content, SENTINELS, kind)
    most, stop = [0], threading.Event()

    def watch(most=most, stop=stop):
      while not stop.is_set():
        most[0] = max(most[0], len(os.listdir('/proc/self/task')))

    assert os.environ['TOKENIZERS_PARALLELISM'] == 'false'
    before = len(os.listdir('/proc/self/task'))
    watcher = threading.Thread(target=watch)
    watcher.start()
    found = fresh.encode_batch(sample, threads)
    stop.set()
    watcher.join()
    assert most[0] <= before + 1 + (threads if threads > 1 else 0)
    for mine, theirs in zip(found, wanted, strict=True):
      np.testing.assert_array_equal(mine, theirs)
  assert pools == [3]


def test_uncased(tmp_path):
  tokenizer = kinds.train(texts(), 150, 0, 'wordpiece', lowercase=True)
  upper, lower = tokenizer.encode_batch([b'BAD \xc3\x89', b'bad e'])
  assert upper.tolist() == lower.tolist()
  assert tokenizer.unk not in upper
  kinds.save(tokenizer, str(tmp_path / 'tokenizer.json'))
  with pytest.raises(
    ValueError, match=r'uncased .*, but data\.lowercase=False'
  ):
    kinds.load(str(tmp_path), 0, 'wordpiece')
