"""Vocabularies in the files they are published as -> tokenizers.

BERT's vocab.txt; GPT-2's encoder.json and vocab.bpe, or vocab.json and
merges.txt; RoBERTa's dict.txt beside them; tokenizer.json; SentencePiece's
.model.
"""

import glob
import json
import os
import re

from input_pipeline import subwords, tokenizer_json
from input_pipeline.sentence_piece import SentencePiece

# What a folder may hold for each kind, the first that is there.
FILES = {
  'unigram': (('*.model',),),
  'bpe': (('*.model',),),
  'wordpiece': (('vocab.txt',), ('tokenizer.json',)),
  'byte_bpe': (
    ('encoder.json', 'vocab.bpe'),
    ('vocab.json', 'merges.txt'),
    ('tokenizer.json',),
  ),
  'bytes': (('tokenizer.json',),),
}
DICT = 'dict.txt'  # fairseq's, beside the files of byte_bpe
FETCH = 'the file was edited or cut short. Fetch it again.'


def load(path, sentinels, kind, lowercase):
  """The tokenizer of a file or folder; see tokenizers.load."""
  files = _find(path, kind)
  if kind in ('unigram', 'bpe'):
    return SentencePiece(_read(files[0]), sentinels, files[0], kind)
  if files[0].endswith('.txt'):
    content = _vocab_txt(files[0], lowercase)
  elif len(files) > 1:
    content = _byte_bpe(*files)
  else:
    content = _tokenizer_json(files[0], kind, lowercase)
  if kind == 'bytes':
    return _bytes(content, sentinels, files[0])
  made = subwords.WordPiece if kind == 'wordpiece' else subwords.ByteBpe
  return made(content, sentinels, path)


def _find(path, kind):
  """The files of a tokenizer at `path`, or an error that says what is there."""
  if not os.path.exists(path):
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: No such file or directory.'
      f" Give {_wanted(kind)}, or '' to train one on the source."
    )
  if os.path.isdir(path):
    for names in FILES[kind]:
      found = [sorted(glob.glob(os.path.join(path, n))) for n in names]
      if all(found):
        if len(found[0]) > 1:
          raise ValueError(
            f'data.tokenizer={path!r} holds several models: name one of'
            f' {", ".join(map(os.path.basename, found[0]))}.'
          )
        files = [files[0] for files in found]
        fairseq = os.path.join(path, DICT)
        if len(files) > 1 and os.path.exists(fairseq):
          files.append(fairseq)
        return files
    others = [other for other in FILES if holds(path, other)]
    there = f', but one of {others[0]!r}' if others else ''
    raise ValueError(
      f'data.tokenizer={path!r} holds no tokenizer of data.tokenizer_kind='
      f'{kind!r} ({_wanted(kind)}){there}: set both to agree.'
    )
  name = os.path.basename(path)
  fits = {
    '.model': ('unigram', 'bpe'),
    '.txt': ('wordpiece',),
    '.json': ('wordpiece', 'byte_bpe', 'bytes'),
  }.get(os.path.splitext(name)[1])
  if name in ('encoder.json', 'vocab.json', 'vocab.bpe', 'merges.txt', DICT):
    raise ValueError(
      f'data.tokenizer={path!r} is one of the files of a byte-level BPE: name'
      " their folder, with data.tokenizer_kind='byte_bpe'."
    )
  if fits and kind not in fits:
    raise ValueError(
      f'data.tokenizer={path!r} is a file of data.tokenizer_kind'
      f' {" or ".join(map(repr, fits))}, but that is {kind!r}, which reads'
      f' {_wanted(kind)}.'
    )
  if not fits and kind not in ('unigram', 'bpe'):
    raise ValueError(
      f'data.tokenizer={path!r} must be {_wanted(kind)} for'
      f' data.tokenizer_kind={kind!r}.'
    )
  return [path]


def holds(path, kind):
  """Whether a folder has the files of a tokenizer of `kind`."""
  return any(
    all(glob.glob(os.path.join(path, name)) for name in names)
    for names in FILES[kind]
  )


def _wanted(kind):
  return ' or '.join(' with '.join(names) for names in FILES[kind])


def _read(path):
  try:
    with open(path, 'rb') as file:
      return file.read()
  except OSError as error:
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: {error.strerror}.'
    ) from error


def _lines(path):
  """The lines of a UTF-8 file, of which only \\n ends one."""
  try:
    text = _read(path).decode().replace('\r\n', '\n')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8 ({error.reason}): {FETCH}') from None
  return text.removesuffix('\n').split('\n')


def _json(path):
  try:
    found = json.loads(_read(path))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON ({error}): {FETCH}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path} holds no JSON object: {FETCH}')
  return found


def _vocab_txt(path, lowercase):
  """BERT's: a piece a line, whose number is the id."""
  ids = {}
  for number, piece in enumerate(_lines(path)):
    if not piece or piece in ids:
      wrong = f'{piece!r} again' if piece else 'empty'
      raise ValueError(f'{path}, line {number + 1} is {wrong}: {FETCH}')
    ids[piece] = number
  _check_wordpiece(path, ids)
  _check_case(path, *_case(path, ids), lowercase)
  return tokenizer_json.wordpiece(ids, lowercase)


def _case(path, ids):
  """Whether a vocab.txt is of lowercase text (None: unclear), and what tells.

  That is what was published beside it, which transformers follows too; or the
  pieces: of cased text many have a capital letter, A to Z, apart from names of
  special tokens, of uncased text none is one.
  """
  names = 'tokenizer_config.json', 'tokenizer.json'
  beside = [os.path.join(os.path.dirname(path), name) for name in names]
  settings, whole = (_json(x) if os.path.exists(x) else {} for x in beside)
  if isinstance(lower := settings.get('do_lower_case'), bool):
    return lower, 'do_lower_case in tokenizer_config.json says so'
  if isinstance(whole.get('model'), dict) and _kind(whole) == 'wordpiece':
    return _lowers(whole), 'tokenizer.json says so'
  capitals = sum(bool(re.search('[A-Z]', p)) for p in ids if not _named(p))
  if capitals > len(ids) / 100:
    return False, f'{capitals:,} of its pieces have capital letters'
  small, large = (
    any(chr(ord(first) + n) in ids for n in range(26)) for first in 'aA'
  )
  uncased = True if small and not large else None
  return uncased, 'it knows no capital letter'


def _lowers(content):
  """Whether a tokenizer.json makes all letters small."""
  normalizer = json.dumps(content.get('normalizer'))
  return '"lowercase": true' in normalizer or '"Lowercase"' in normalizer


def _check_case(path, lower, why, lowercase):
  if lower not in (None, lowercase):
    case = 'uncased' if lower else 'cased'
    raise ValueError(
      f'{path} is {case} ({why}), but data.lowercase={lowercase}: set it to'
      f' {lower}.'
    )


def _check_wordpiece(path, ids):
  missing = [name for name in ('[PAD]', '[UNK]') if name not in ids]
  if missing:
    raise ValueError(
      f'{path} has no {" and ".join(missing)}, which WordPiece needs: it is no'
      f' vocabulary of BERT, or {FETCH}'
    )


def _byte_bpe(vocab, merges, dictionary=None):
  """GPT-2's files, and RoBERTa's ids where there is fairseq's dictionary."""
  ids = _json(vocab)
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
  _check_bytes(vocab, ids)
  unmade = [
    piece
    for piece in ids
    if len(piece) > 1 and piece not in made and not _named(piece)
  ]
  if unmade:
    raise ValueError(
      f'{merges} makes no {unmade[0]!r} nor {len(unmade) - 1:,} more of the'
      f' pieces in {os.path.basename(vocab)}: {FETCH}'
    )
  return tokenizer_json.byte_bpe(
    _fairseq(dictionary, ids) if dictionary else ids, pairs
  )


def _named(piece):
  """Whether a piece is the name of a special token, or fills a place."""
  return re.fullmatch(r'<.+>|\[.+\]|madeupword\d+', piece)


def _check_ids(path, ids):
  for piece, i in ids.items():
    if type(i) is not int or not 0 <= i < len(ids):
      raise ValueError(
        f'{path}: {piece!r} has id {i!r}, but ids must count from 0 to'
        f' {len(ids) - 1}, the number of pieces less one: {FETCH}'
      )


def _check_bytes(path, ids):
  for byte, character in enumerate(tokenizer_json.byte_characters()):
    if character not in ids:
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


def _tokenizer_json(path, kind, lowercase):
  """A tokenizer.json, if it is of `kind`."""
  content = _json(path)
  model, added = content.get('model'), content.get('added_tokens') or []
  if not isinstance(model, dict) or not isinstance(
    model.get('vocab'), dict | list
  ):
    raise ValueError(
      f'{path} is no tokenizer.json: it has no model with a vocabulary.'
    )
  found = _kind(content)
  if found != kind:
    raise ValueError(
      f'{path} is of data.tokenizer_kind={found!r}, but that is {kind!r}.'
      if found in FILES
      else f'{path} holds a model of type {found}, which data.tokenizer_kind='
      f'{kind!r} does not read; of SentencePiece, give the .model.'
    )
  if model.get('dropout'):
    raise ValueError(
      f'{path}: model.dropout={model["dropout"]} draws other ids each time; set'
      ' it to null.'
    )
  try:
    ids = model['vocab'] | {t['content']: t['id'] for t in added}
    whole = all(type(i) is int for i in ids.values())
    whole = whole and all(type(t['special']) is bool for t in added)
  except (TypeError, KeyError):
    whole = False
  if not whole:
    raise ValueError(f'{path} has tokens without a number: {FETCH}')
  if kind == 'wordpiece':
    _check_wordpiece(path, ids)
    _check_case(path, _lowers(content), 'its normalizer says so', lowercase)
  else:
    _check_bytes(path, ids)
  return content


def _kind(content):
  model = content['model']
  # Old files leave out the type.
  found = model.get('type') or ('BPE' if 'merges' in model else 'WordPiece')
  if found == 'WordPiece':
    return 'wordpiece'
  if found == 'BPE' and '"ByteLevel"' in json.dumps(
    [content.get('pre_tokenizer'), content.get('decoder')]
  ):
    return 'byte_bpe' if model.get('merges') else 'bytes'
  return found


def _bytes(content, sentinels, path):
  """Bytes as they were written to a tokenizer.json."""
  ids = content['model']['vocab']
  count = sum(piece.startswith('<extra_id_') for piece in ids)
  made = subwords.Bytes(count or sentinels, '[MASK]' in ids)
  if made.pieces[: len(ids)] != list(ids) or not all(
    made.pieces[i] == piece for piece, i in ids.items()
  ):
    raise ValueError(f"{path} is not of data.tokenizer_kind='bytes': {FETCH}")
  subwords.check_sentinels(made.sentinels, sentinels, path)
  return made
