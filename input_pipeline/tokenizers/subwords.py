"""Tokenizers of a tokenizer.json: WordPiece, byte-level BPE, and bytes as ids.

The tokenizers library encodes; see json_format for the file.
"""

import concurrent.futures
import functools
import itertools
import os
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np

from input_pipeline.sources import hashes
from input_pipeline.tokenizers import json_format, scripts
from input_pipeline.tokenizers.interface import Texts, Tokenizer

KNOWN = 1 << 17  # words whose ids are kept, at most
WORD = 32  # bytes of a word whose ids are kept, at most
PART = 64  # texts for each thread, at least
ONE_SPACE = bytes.maketrans(b'\t\n\r', b'   ')
# A space followed by a word, not by another of the spaces that Unicode has.
SPACE = re.compile(
  rb' (?!\s|\Z|\xc2[\x85\xa0]|\xe1\x9a\x80|\xe3\x80\x80'
  rb'|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f)'
)


def library() -> ModuleType:
  """The `tokenizers` module, without the threads that it would start."""
  os.environ['TOKENIZERS_PARALLELISM'] = 'false'
  import tokenizers

  return tokenizers


def open_content(content: dict) -> Any:
  """The library's Tokenizer of a tokenizer.json's content."""
  text = json_format.to_json(content).decode()
  return library().Tokenizer.from_str(text)


class Subwords(Tokenizer):
  """The base of all kinds in a tokenizer.json.

  New words are encoded outside the interpreter lock; words seen before are
  looked up. `content` is that of a tokenizer.json. If it has no <extra_id_N>
  tokens, `sentinels` of them are appended, <extra_id_0> last. Raises
  ValueError, naming `name`, if the library cannot read the content, or it has
  fewer.
  """

  file = 'tokenizer.json'

  def __init__(self, content: dict, sentinels: int, name: str):
    content, ids = json_format.canonical(content, sentinels, name)
    self.model = json_format.to_json(content)
    # What transformers adds around a text does not change the text's ids.
    content = content | {'post_processor': None}
    self.fingerprint = hashes.sha256(json_format.to_json(content))
    self.size = len(ids)
    self.pieces = list(ids)
    for role, names in json_format.SPECIALS.items():
      setattr(self, role, next((ids[n] for n in names if n in ids), None))
    if self.pad is None:
      ends = self.bos, self.eos, 0
      self.pad = next(i for i in ends if i is not None)
    self.sentinels = json_format.find_sentinels(ids, sentinels, name)
    # The library finds only tokens that are not special in a text.
    tokens = content['added_tokens']
    added = [token for token in tokens if not token['special']]
    special = {token['content'] for token in tokens if token['special']}
    encoder = self._for_text(content, special) | {'added_tokens': added}
    self._byte_fallback = bool(content['model'].get('byte_fallback'))
    try:
      self._encoder = open_content(encoder)
    except Exception as error:  # the class that the library raises
      raise ValueError(
        f'{name} is not a tokenizer that the tokenizers library reads: {error}'
      ) from error
    self._added = {token['content'] for token in tokens}
    self._special = {name: ids[name] for name in special}
    self._apart = not added and self._spaces_part(content)
    self._known = {}  # word -> ids

  @functools.cached_property
  def markers(self) -> dict[str, int]:
    return super().markers | self._special

  @staticmethod
  def _for_text(content, special):
    """The content for the library, which must not find `special` in a text."""
    del special
    return content

  def encode_batch(self, texts: Texts, threads: int = 1) -> list[np.ndarray]:
    # Words seen before are looked up: the library takes most of the time.
    texts = [t.encode() if isinstance(t, str) else t for t in texts]
    if not self._apart:
      return [np.array(ids, np.int32) for ids in self._encode(texts, threads)]
    known = self._known
    words = [self._split(text) for text in texts]
    ids = [list(map(known.get, part)) for part in words]
    unfinished = [n for n, found in enumerate(ids) if None in found]
    pairs = {n: [*zip(words[n], ids[n], strict=True)] for n in unfinished}
    new = {word for part in pairs.values() for word, i in part if i is None}
    encoded = self._encode(map(self._text, new), threads)
    table = dict(zip(new, encoded, strict=True))
    for n, part in pairs.items():
      ids[n] = [table[word] if i is None else i for word, i in part]
    if len(known) < KNOWN:
      known.update((w, i) for w, i in table.items() if len(w) <= WORD)
    joined = map(itertools.chain.from_iterable, ids)
    return [np.array(list(found), np.int32) for found in joined]

  def _encode(self, texts, threads):
    """Texts -> lists of ids, by the library, outside the interpreter lock."""
    texts = [text.decode(errors='replace') for text in texts]

    def encode(part):
      found = self._encoder.encode_batch_fast(part, add_special_tokens=False)
      return [encoding.ids for encoding in found]

    size = max(PART, -(-len(texts) // threads))
    parts = [texts[n : n + size] for n in range(0, len(texts), size)]
    if len(parts) < 2:
      return encode(texts)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      return [ids for part in pool.map(encode, parts) for ids in part]

  def piece(self, i: int) -> str:
    return self.pieces[i]

  def byte_lengths(self) -> np.ndarray:
    lengths = np.array([len(text) for text in self._texts], np.int32)
    lengths[list(self.specials)] = 0
    return lengths


class WordPiece(Subwords):
  """BERT's WordPiece (Devlin et al. 2019, 3).

  Text is split at spaces and around punctuation and CJK characters; a piece
  inside a word begins with `##`. The ids do not keep where spaces were:
  decode() and byte_lengths() have one before every word, except for punctuation
  and CJK. As in the tokenizers library, a word of more than 100 characters is
  unknown.
  """

  @functools.cached_property
  def _texts(self):
    texts = []
    for piece in self.pieces:
      if piece.startswith('##') and len(piece) > 2:
        text = piece[2:]
      elif len(piece) == 1 and not (piece.isalnum() and ord(piece) < 0x2E80):
        text = piece
      else:
        text = f' {piece}'
      texts.append(text.encode())
    return texts

  @staticmethod
  def _spaces_part(content):
    """Whether no piece ever crosses a space."""
    steps = content['normalizer'], content['pre_tokenizer']
    types = [step and step['type'] for step in steps]
    return types == ['BertNormalizer', 'BertPreTokenizer']

  @staticmethod
  def _split(text):
    return text.translate(ONE_SPACE).split(b' ')

  @staticmethod
  def _text(word):
    return word

  def decode(self, ids: Iterable[int]) -> str:
    shown = {i: f' {name}' if name else '' for i, name in self.shown.items()}
    texts = (shown.get(i, self._texts[i].decode()) for i in map(int, ids))
    return ''.join(texts).strip()

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    starts = [
      not p.startswith('##') or p == '##' or scripts.begins_unspaced(text)
      for p, text in zip(self.pieces, self._texts, strict=True)
    ]
    return np.array(starts)


class ByteBpe(Subwords):
  """Byte-level BPE of GPT-2 (Radford et al. 2019, 2.2) and RoBERTa.

  Pieces are spelled in 256 characters that stand for bytes, so any text has ids
  and decodes to itself. A word begins with its space, 'Ġ'.
  """

  masking = '<s>', '</s>', '<mask>'

  @functools.cached_property
  def _texts(self):
    byte_of = {c: b for b, c in enumerate(json_format.byte_characters())}

    def text(piece):
      if piece not in self._added and set(piece) <= byte_of.keys():
        return bytes(byte_of[c] for c in piece)
      return piece.encode()

    return [text(piece) for piece in self.pieces]

  @staticmethod
  def _spaces_part(content):
    """Whether a new piece begins at every space before a word."""
    steps = content['normalizer'], content['pre_tokenizer']
    return steps == (None, json_format.BYTE_LEVEL)

  @staticmethod
  def _split(text):
    """Words without the space before them; the first word gets one more."""
    words = SPACE.split(text)
    words[0] = b' ' + words[0]
    return words

  @staticmethod
  def _text(word):
    return word[1:] if word.startswith(b' ') else b' ' + word

  def decode(self, ids: Iterable[int]) -> str:
    shown = {i: name.encode() for i, name in self.shown.items()}
    texts = (shown.get(i, self._texts[i]) for i in map(int, ids))
    return b''.join(texts).decode(errors='replace')

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    starts = [t[:1] == b' ' or scripts.begins_unspaced(t) for t in self._texts]
    starts = np.array(starts)
    starts[list(self.specials)] = True
    return starts


class Bytes(Tokenizer):
  """Bytes as ids (Xue et al. 2022, ByT5): byte b is id b + 3.

  Pad 0, EOS 1, unknown 2, which no text has; the sentinels come last, as in T5.
  With `specials`, [CLS], [SEP] and [MASK] are between bytes and sentinels.
  decode() writes U+FFFD for bytes that are not UTF-8.

  >>> Bytes(1).encode_batch([b'a b'])[0].tolist()
  [100, 35, 101]
  """

  file = 'tokenizer.json'
  pad, eos, unk = 0, 1, 2
  first = 3

  def __init__(self, sentinels: int, specials: bool = False):
    self.pieces = ['<pad>', '</s>', '<unk>', *json_format.byte_characters()]
    if specials:
      self.cls, self.sep, self.mask = range(259, 262)
      self.pieces += self.masking
    self.pieces += [f'<extra_id_{n}>' for n in reversed(range(sentinels))]
    self.size = len(self.pieces)
    self.sentinels = np.arange(self.size)[::-1][:sentinels].astype(np.int32)
    ids = {piece: i for i, piece in enumerate(self.pieces)}
    content = json_format.byte_bpe(ids, [])
    content['pre_tokenizer'] = json_format.BYTE_LEVEL | {'use_regex': False}
    content, _ = json_format.canonical(content, 0, 'bytes')
    self.model = json_format.to_json(content)
    self.fingerprint = hashes.sha256(self.model)

  def encode_batch(self, texts: Texts, threads: int = 1) -> list[np.ndarray]:
    del threads  # encoding is only a copy
    texts = (t.encode() if isinstance(t, str) else t for t in texts)
    bytes_of = (np.frombuffer(text, np.uint8) for text in texts)
    return [found.astype(np.int32) + self.first for found in bytes_of]

  def decode(self, ids: Iterable[int]) -> str:
    first, shown = self.first, self.shown | {self.unk: '<unk>'}
    texts = (
      shown[i].encode() if i in shown else bytes([i - first])
      for i in map(int, ids)
    )
    return b''.join(texts).decode(errors='replace')

  def piece(self, i: int) -> str:
    byte = int(i) - self.first
    if 0 <= byte < 256:
      return chr(byte) if 32 < byte < 127 else f'<0x{byte:02X}>'
    return self.pieces[i]

  def byte_lengths(self) -> np.ndarray:
    lengths = np.zeros(self.size, np.int32)
    lengths[self.first : self.first + 256] = 1
    return lengths
