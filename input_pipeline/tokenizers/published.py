"""Loads a tokenizer from the files it was published as.

BERT's vocab.txt; GPT-2's encoder.json and vocab.bpe, or vocab.json and
merges.txt, with RoBERTa's dict.txt (see plain_files); tokenizer.json (see
json_format); SentencePiece's .model. Files of settings beside them count too
(see settings).
"""

import glob
import json
import os

from input_pipeline.tokenizers import (
  json_format,
  plain_files,
  sentence_piece,
  settings,
  subwords,
)
from input_pipeline.tokenizers.interface import Tokenizer
from input_pipeline.tokenizers.plain_files import FETCH

WHOLE = 'tokenizer.json'
# The files of each kind; a folder's first complete entry is read. If WHOLE is
# beside the plain files of wordpiece or byte_bpe, it is read too: it says more.
FILES = {
  'unigram': (('*.model',), (WHOLE,)),
  'bpe': (('*.model',), (WHOLE,)),
  'wordpiece': (('vocab.txt',), (WHOLE,)),
  'byte_bpe': (
    ('encoder.json', 'vocab.bpe'),
    ('vocab.json', 'merges.txt'),
    (WHOLE,),
  ),
  'bytes': ((WHOLE,),),
}
DICT = 'dict.txt'  # fairseq's, beside the files of byte_bpe
CLASSES = {
  'unigram': sentence_piece.SentencePieceJson,
  'bpe': sentence_piece.SentencePieceJson,
  'wordpiece': subwords.WordPiece,
  'byte_bpe': subwords.ByteBpe,
}


def load(
  path: str, sentinels: int, kind: str = 'unigram', lowercase: bool = False
) -> Tokenizer:
  """The tokenizer of `kind` in a file or folder `path`.

  `sentinels` are appended if the file has none; `lowercase` is WordPiece's.
  Raises ValueError if the file is missing, damaged or of another kind.
  """
  files = _find(path, kind)
  beside = os.path.join(path, WHOLE)
  if kind == 'bytes':
    return _bytes(files[0], sentinels)
  if files[0].endswith('.json') and len(files) == 1:
    content = _whole(files[0], kind, path, lowercase)
  elif kind in ('unigram', 'bpe'):
    return _model(files[0], sentinels, kind, path)
  elif os.path.exists(beside):
    content = _both(files, beside, kind, lowercase)
  else:
    content = _plain(files, kind, lowercase)
  return CLASSES[kind](content, sentinels, path)


def _find(path, kind):
  """The files of a tokenizer at `path`; raises ValueError if it has none."""
  if not os.path.exists(path):
    raise ValueError(
      f'data.tokenizer={path!r} cannot be read: No such file or directory.'
      f" Give {_wanted(kind)}, or '' to train one on the source."
    )
  if not os.path.isdir(path):
    _check_name(path, kind)
    return [path]
  for names in FILES[kind]:
    found = [_matches(path, name) for name in names]
    if all(found):
      if len(found[0]) > 1:
        raise ValueError(
          f'data.tokenizer={path!r} holds several models: name one of'
          f' {", ".join(map(os.path.basename, found[0]))}.'
        )
      files = [files[0] for files in found]
      return files + (_matches(path, DICT) if len(files) > 1 else [])
  others = [other for other in FILES if holds(path, other)]
  there = f', but one of {others[0]!r}' if others else ''
  raise ValueError(
    f'data.tokenizer={path!r} holds no tokenizer of data.tokenizer_kind='
    f'{kind!r} ({_wanted(kind)}){there}: set both to agree.'
  )


def _check_name(path, kind):
  """Raises ValueError unless a file's name fits the kind."""
  name = os.path.basename(path)
  fits = {
    '.model': ('unigram', 'bpe'),
    '.txt': ('wordpiece',),
    '.json': tuple(FILES),
  }.get(os.path.splitext(name)[1])
  if name in ('encoder.json', 'vocab.json', 'vocab.bpe', 'merges.txt', DICT):
    raise ValueError(
      f'data.tokenizer={path!r} is one of the files of a byte-level BPE: name'
      " their folder, with data.tokenizer_kind='byte_bpe'."
    )
  if fits and kind not in fits:
    raise ValueError(
      f'data.tokenizer={path!r} is a file of data.tokenizer_kind'
      f' {" or ".join(map(repr, fits))}, but the config says {kind!r}, which'
      f' reads {_wanted(kind)}.'
    )
  if not fits and kind not in ('unigram', 'bpe'):
    raise ValueError(
      f'data.tokenizer={path!r} must be {_wanted(kind)} for'
      f' data.tokenizer_kind={kind!r}.'
    )


def holds(path: str, kind: str) -> bool:
  """Whether a folder has the files of a tokenizer of `kind`."""
  return any(all(_matches(path, n) for n in names) for names in FILES[kind])


def _matches(folder, name):
  """The files of a pattern in a folder, whose own name may have brackets."""
  return sorted(glob.glob(os.path.join(glob.escape(folder), name)))


def _wanted(kind):
  return ' or '.join(' with '.join(names) for names in FILES[kind])


def _plain(files, kind, lowercase):
  """The content that plain files and the settings beside them make."""
  folder = os.path.dirname(files[0])
  found = settings.read(folder)
  content = _bare(files, kind, lowercase)
  if kind == 'wordpiece':
    case = plain_files.is_uncased(content['model']['vocab'])
    lower = found[settings.CONFIG].get('do_lower_case')
    if isinstance(lower, bool):
      case = lower, 'do_lower_case in tokenizer_config.json says so'
    _check_case(files[0], *case, lowercase)
  return settings.apply(content, found, kind, folder)


def _bare(files, kind, lowercase):
  """The content that plain files alone make."""
  if kind == 'byte_bpe':
    return plain_files.byte_bpe(*files)
  return json_format.wordpiece(plain_files.vocab_txt(files[0]), lowercase)


def _whole(path, kind, folder, lowercase):
  """The content of a tokenizer.json, with the settings of `folder`."""
  content = _tokenizer_json(path, kind)
  content = settings.apply(content, settings.read(folder), kind, folder, True)
  if kind == 'wordpiece':
    steps = json.dumps(content.get('normalizer'))
    lower = '"lowercase": true' in steps or '"Lowercase"' in steps
    _check_case(path, lower, 'its normalizer says so', lowercase)
  return content


def _both(files, path, kind, lowercase):
  """The content of a tokenizer.json that is beside plain files.

  It may add a normalizer, a split pattern and tokens. If it adds nothing, the
  plain files are used: their form is simpler. Raises ValueError if the two have
  different ids.
  """
  plain = _bare(files, kind, lowercase)
  folder, name = os.path.split(path)
  content = _whole(path, kind, folder, lowercase)
  ours, theirs = (json_format.decides(x) for x in (plain, content))
  added = {token['content'] for token in content['added_tokens']}
  file = os.path.basename(files[0])
  _check_same(ours['ids'], theirs['ids'], added, folder, file)
  if ours['merges'] != theirs['merges']:
    raise ValueError(
      f'data.tokenizer={folder!r}: {name} has other merges than the file beside'
      ' it. Remove the wrong file.'
    )
  if ours == theirs:
    return plain | {'post_processor': content.get('post_processor')}
  return content


def _check_same(ours, theirs, added, folder, name):
  """Raises ValueError unless a tokenizer.json has the ids of the file `name`.

  It may have more ids only for `added` tokens.
  """
  wrong = [piece for piece, i in ours.items() if theirs.get(piece) != i]
  known = {*ours, *added}
  wrong += [piece for piece in theirs if piece not in known]
  if wrong:
    here, there = ours.get(wrong[0]), theirs.get(wrong[0])
    raise ValueError(
      f'data.tokenizer={folder!r}: {wrong[0]!r} has id {here} in {name} and'
      f' {there} in {WHOLE}. Remove the wrong file, or name the right one.'
    )


def _check_case(path, lower, why, lowercase):
  if lower not in (None, lowercase):
    case = 'uncased' if lower else 'cased'
    raise ValueError(
      f'{path} is {case} ({why}), but data.lowercase={lowercase}: set it to'
      f' {lower}.'
    )


def _model(path, sentinels, kind, folder):
  """A SentencePiece model, unless a tokenizer.json beside it has other ids."""
  model = plain_files.read(path)
  made = sentence_piece.SentencePiece(model, sentinels, path, kind)
  found = settings.read(folder)
  settings.check_sentence_piece(found, kind, folder, made.ids)
  beside = os.path.join(folder, WHOLE)
  if os.path.exists(beside):
    content = _tokenizer_json(beside, kind)
    both = made.ids, json_format.all_ids(content)
    # T5's sentinels may be in one file, in both, or added here.
    ids = [{p: i for p, i in x.items() if '<extra_id_' not in p} for x in both]
    _check_same(*ids, set(), folder, os.path.basename(path))
  return made


def _tokenizer_json(path, kind):
  """The content of a tokenizer.json; raises ValueError if not of `kind`."""
  content = plain_files.read_json(path)
  model, added = content.get('model'), content.get('added_tokens') or []
  vocab = model.get('vocab') if isinstance(model, dict) else None
  if not isinstance(vocab, dict | list):
    raise ValueError(
      f'{path} is not a tokenizer.json: it has no model with a vocabulary.'
    )
  found = _kind(content)
  if found != kind:
    raise ValueError(
      f'{path} is of data.tokenizer_kind={found!r}, but the config says'
      f' {kind!r}.'
      if found in FILES
      else f'{path} holds a model of type {found}, which no'
      ' data.tokenizer_kind reads.'
    )
  if model.get('dropout'):
    raise ValueError(
      f'{path}: model.dropout={model["dropout"]} gives other ids each time. Set'
      ' it to null.'
    )
  try:
    ids = json_format.all_ids(content)
    whole = all(type(i) is int for i in ids.values())
    whole = whole and all(type(t['special']) is bool for t in added)
  except (TypeError, KeyError, ValueError):
    whole = False
  if not whole:
    raise ValueError(f'{path} has tokens without a number: {FETCH}')
  if kind == 'wordpiece':
    plain_files.check_wordpiece(path, ids)
  elif kind in ('byte_bpe', 'bytes'):
    plain_files.check_bytes(path, ids)
  return content


def _kind(content):
  model = content['model']
  # Old files leave out the type.
  found = model.get('type') or ('BPE' if 'merges' in model else 'WordPiece')
  if found in ('WordPiece', 'Unigram'):
    return found.lower()
  steps = 'normalizer', 'pre_tokenizer', 'decoder'
  steps = json.dumps([content.get(name) for name in steps], ensure_ascii=False)
  if found == 'BPE' and '"ByteLevel"' in steps:
    return 'byte_bpe' if model.get('merges') else 'bytes'
  if found == 'BPE' and (model.get('byte_fallback') or '▁' in steps):
    return 'bpe'
  return found


def _bytes(path, sentinels):
  """The bytes tokenizer that was saved as a tokenizer.json."""
  ids = _tokenizer_json(path, 'bytes')['model']['vocab']
  count = sum(piece.startswith('<extra_id_') for piece in ids)
  made = subwords.Bytes(count or sentinels, '[MASK]' in ids)
  known = {piece: i for i, piece in enumerate(made.pieces)}
  if list(ids.items()) != list(known.items())[: len(ids)]:
    raise ValueError(f"{path} is not of data.tokenizer_kind='bytes': {FETCH}")
  json_format.find_sentinels(known, sentinels, path)
  return made
