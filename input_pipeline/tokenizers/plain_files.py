"""Vocabularies in plain files -> the content of a tokenizer.json.

BERT's vocab.txt; GPT-2's encoder.json and vocab.bpe, or vocab.json and
merges.txt; RoBERTa's dict.txt beside them. Every error names the file and what
is wrong in it.
"""

import json
import os
import re

from input_pipeline.tokenizers import json_format

FETCH = 'the file was edited or cut short. Fetch it again.'
# Bytes that no UTF-8 text has.
NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}


def read(path):
  """The bytes of a file. Raises ValueError when it cannot be read."""
  try:
    with open(path, 'rb') as file:
      return file.read()
  except OSError as error:
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: {error.strerror}.'
    ) from error


def read_json(path):
  """The object in a JSON file."""
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
  """The lines of a UTF-8 file, of which only \\n ends one."""
  try:
    text = read(path).decode('utf-8-sig').replace('\r\n', '\n')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8 ({error.reason}): {FETCH}') from None
  return text.removesuffix('\n').split('\n')


def vocab_txt(path):
  """Piece -> id of BERT's file: a piece a line, whose number is the id."""
  ids = {}
  for number, piece in enumerate(_lines(path)):
    if not piece or piece in ids:
      wrong = f'{piece!r} again' if piece else 'empty'
      raise ValueError(f'{path}, line {number + 1} is {wrong}: {FETCH}')
    ids[piece] = number
  check_wordpiece(path, ids)
  return ids


def check_wordpiece(path, ids):
  """Raises ValueError unless the vocabulary has what WordPiece needs."""
  missing = [name for name in ('[PAD]', '[UNK]') if name not in ids]
  if missing:
    raise ValueError(
      f'{path} has no {" and ".join(missing)}, which WordPiece needs: it is no'
      f' vocabulary of BERT, or {FETCH}'
    )


def is_uncased(ids):
  """Whether pieces are those of lowercase text (None: unclear), and why.

  Of cased text many pieces have a capital letter, A to Z, apart from names of
  special tokens; of uncased text none is one.
  """
  capitals = sum(bool(re.search('[A-Z]', p)) for p in ids if not named(p))
  if capitals > len(ids) / 100:
    return False, f'{capitals:,} of its pieces have capital letters'
  small, large = (
    any(chr(ord(first) + n) in ids for n in range(26)) for first in 'aA'
  )
  uncased = True if small and not large else None
  return uncased, 'it knows no capital letter'


def byte_bpe(vocab, merges, dictionary=None):
  """GPT-2's files, and RoBERTa's ids where there is fairseq's dictionary."""
  ids = read_json(vocab)
  _check_ids(vocab, ids)
  pairs, made = [], set()
  for number, line in enumerate(_lines(merges), 1):
    if number == 1 and line.startswith('#version'):
      continue
    pair = line.split(' ')
    known = len(pair) == 2 and all(p in ids for p in (*pair, ''.join(pair)))
    if not known:
      raise ValueError(
        f'{merges}, line {number}: {line!r} is no pair of pieces that'
        f' {os.path.basename(vocab)} knows, joined and apart: {FETCH}'
      )
    pairs.append(pair)
    made.add(''.join(pair))
  check_bytes(vocab, ids)
  unmade = [
    piece
    for piece in ids
    if len(piece) > 1 and piece not in made and not named(piece)
  ]
  if unmade:
    raise ValueError(
      f'{merges} makes no {unmade[0]!r} nor {len(unmade) - 1:,} more of the'
      f' pieces in {os.path.basename(vocab)}: {FETCH}'
    )
  return json_format.byte_bpe(
    _fairseq(dictionary, ids) if dictionary else ids, pairs
  )


def named(piece):
  """Whether a piece is the name of a special token, or fills a place."""
  return re.fullmatch(r'<.+>|\[.+\]|madeupword\d+', piece)


def _check_ids(path, ids):
  for piece, i in ids.items():
    if type(i) is not int or not 0 <= i < len(ids):
      raise ValueError(
        f'{path}: {piece!r} has id {i!r}, but ids must count from 0 to'
        f' {len(ids) - 1}, the number of pieces less one: {FETCH}'
      )


def check_bytes(path, ids):
  """Raises ValueError unless every byte that UTF-8 text has is a piece.

  GPT-NeoX's vocabulary lacks some of the others.
  """
  for byte, character in enumerate(json_format.byte_characters()):
    if character not in ids and byte not in NEVER:
      raise ValueError(
        f'{path} has no piece {character!r} for byte {byte}: {FETCH}'
      )


def _fairseq(path, ids):
  """RoBERTa's ids: <s> <pad> </s> <unk>, dict.txt's order, <mask>.

  A line is GPT-2's id of a piece and its count; a few fill places.
  """
  pieces = {str(i): piece for piece, i in ids.items()}
  mapped = {name: n for n, name in enumerate(('<s>', '<pad>', '</s>', '<unk>'))}
  for number, line in enumerate(_lines(path), 1):
    token, _, count = line.partition(' ')
    piece = pieces.get(token, token)
    known = token in pieces or not token.isdigit()
    if not (known and token and count.isdigit()) or piece in mapped:
      raise ValueError(
        f'{path}, line {number}: {line!r} is no id of GPT-2 and its count, or'
        f' there twice: {FETCH}'
      )
    mapped[piece] = len(mapped)
  missing = [piece for piece in ids if piece not in mapped]
  if missing:
    raise ValueError(
      f"{path} lacks {len(missing):,} of GPT-2's ids, the first"
      f' {ids[missing[0]]}: {FETCH}'
    )
  return mapped | {'<mask>': len(mapped)}
