"""Vocabularies in plain files -> the content of a tokenizer.json.

BERT's vocab.txt; GPT-2's encoder.json and vocab.bpe, or vocab.json and
merges.txt, with RoBERTa's dict.txt. Every error names the file and what is
wrong in it.
"""

import json
import os
import re
import string
from collections.abc import Collection

from input_pipeline.sources import paths
from input_pipeline.tokenizers import json_format

FETCH = 'the file was edited or cut short. Fetch it again.'
# Bytes that UTF-8 text never has.
NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}


def read(path: str) -> bytes:
  """The bytes of a file; raises ValueError if it cannot be read."""
  try:
    return paths.read(path)
  except OSError as error:
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: {error.strerror}.'
    ) from error


def read_json(path: str) -> dict:
  """The object in a JSON file; raises ValueError if there is none."""
  try:
    found = json.loads(read(path))
  except RecursionError:
    raise ValueError(f'{path} is nested too deeply: {FETCH}') from None
  except ValueError as error:
    raise ValueError(f'{path} is not JSON ({error}): {FETCH}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path} holds no JSON object: {FETCH}')
  return found


def _lines(path):
  """The lines of a UTF-8 file; only \\n ends a line."""
  try:
    text = read(path).decode('utf-8-sig').replace('\r\n', '\n')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8 ({error.reason}): {FETCH}') from None
  return text.removesuffix('\n').split('\n')


def vocab_txt(path: str) -> dict[str, int]:
  """Piece -> id of BERT's file: line n, from 0 on, has the piece of id n."""
  ids = {}
  for number, piece in enumerate(_lines(path)):
    if not piece or piece in ids:
      wrong = f'{piece!r} again' if piece else 'empty'
      raise ValueError(f'{path}, line {number + 1} is {wrong}: {FETCH}')
    ids[piece] = number
  check_wordpiece(path, ids)
  return ids


def check_wordpiece(path: str, ids: Collection[str]) -> None:
  """Raises ValueError unless the vocabulary has what WordPiece needs."""
  missing = [name for name in ('[PAD]', '[UNK]') if name not in ids]
  if missing:
    raise ValueError(
      f'{path} has no {" and ".join(missing)}, which WordPiece needs: it is'
      f' not a vocabulary of BERT, or {FETCH}'
    )


def is_uncased(ids: Collection[str]) -> tuple[bool | None, str]:
  """Whether pieces are those of lowercase text (None: unclear), and why.

  In a cased vocabulary many pieces have a capital letter, A to Z, even without
  the names of special tokens. In an uncased one no capital letter is a piece.
  """
  capitals = sum(bool(re.search('[A-Z]', p)) for p in ids if not named(p))
  if capitals > len(ids) / 100:
    return False, f'{capitals:,} of its pieces have capital letters'
  small = any(letter in ids for letter in string.ascii_lowercase)
  large = any(letter in ids for letter in string.ascii_uppercase)
  uncased = True if small and not large else None
  return uncased, 'it knows no capital letter'


def byte_bpe(vocab: str, merges: str, dictionary: str | None = None) -> dict:
  """The content of GPT-2's files; ids are RoBERTa's with its dict.txt."""
  ids = read_json(vocab)
  for piece, i in ids.items():
    if type(i) is not int or not 0 <= i < len(ids):
      raise ValueError(
        f'{vocab}: {piece!r} has id {i!r}, but ids must count from 0 to'
        f' {len(ids) - 1}, the number of pieces less one: {FETCH}'
      )
  pairs, made = [], set()
  for number, line in enumerate(_lines(merges), 1):
    if number == 1 and line.startswith('#version'):
      continue
    pair = line.split(' ')
    if len(pair) != 2 or not {*pair, ''.join(pair)} <= ids.keys():
      raise ValueError(
        f'{merges}, line {number}: {line!r} is not a pair of pieces that'
        f' {os.path.basename(vocab)} has, apart and joined: {FETCH}'
      )
    pairs.append(pair)
    made.add(''.join(pair))
  check_bytes(vocab, ids)
  longer = [piece for piece in ids if len(piece) > 1 and not named(piece)]
  unmade = [piece for piece in longer if piece not in made]
  if unmade:
    raise ValueError(
      f'{merges} never makes {unmade[0]!r}, nor {len(unmade) - 1:,} more of the'
      f' pieces in {os.path.basename(vocab)}: {FETCH}'
    )
  ids = _fairseq(dictionary, ids) if dictionary else ids
  return json_format.byte_bpe(ids, pairs)


def named(piece: str) -> bool:
  """Whether a piece is the name of a special token, or only fills a place."""
  return bool(re.fullmatch(r'<.+>|\[.+\]|madeupword\d+', piece))


def check_bytes(path: str, ids: Collection[str]) -> None:
  """Raises ValueError unless every byte of UTF-8 text is a piece.

  GPT-NeoX's vocabulary lacks some bytes that UTF-8 never has.
  """
  for byte, character in enumerate(json_format.byte_characters()):
    if character not in ids and byte not in NEVER:
      raise ValueError(
        f'{path} has no piece {character!r} for byte {byte}: {FETCH}'
      )


def _fairseq(path, ids):
  """RoBERTa's ids: <s> <pad> </s> <unk>, then dict.txt's order, then <mask>.

  A line has GPT-2's id of a piece and its count; a few lines only fill places.
  """
  pieces = {str(i): piece for piece, i in ids.items()}
  mapped = {name: n for n, name in enumerate(('<s>', '<pad>', '</s>', '<unk>'))}
  for number, line in enumerate(_lines(path), 1):
    token, _, count = line.partition(' ')
    piece = pieces.get(token, token)
    known = token in pieces or not token.isdigit()
    if not (known and token and count.isdigit()) or piece in mapped:
      raise ValueError(
        f"{path}, line {number}: {line!r} is not one of GPT-2's ids and its"
        f' count, or is there twice: {FETCH}'
      )
    mapped[piece] = len(mapped)
  missing = [piece for piece in ids if piece not in mapped]
  if missing:
    raise ValueError(
      f"{path} lacks {len(missing):,} of GPT-2's ids, the first"
      f' {ids[missing[0]]}: {FETCH}'
    )
  return mapped | {'<mask>': len(mapped)}
