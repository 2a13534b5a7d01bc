"""Files beside a vocabulary: its settings, special tokens and added tokens.

transformers writes tokenizer_config.json, special_tokens_map.json and
added_tokens.json. Settings that change ids are followed; those that cannot be
followed raise an error that names them.
"""

import os

from input_pipeline.tokenizers import json_format
from input_pipeline.tokenizers.json_format import FLAGS
from input_pipeline.tokenizers.plain_files import read_json

Found = dict[str, dict]  # name of each file -> its content; {} if there is none
CONFIG = 'tokenizer_config.json'
MAP = 'special_tokens_map.json'
ADDED = 'added_tokens.json'
CHAT_TEMPLATE = 'chat_template.jinja'  # read by chat/templates.py
# WordPiece's settings -> the fields of BERT's normalizer.
NORMALIZER = {
  'do_lower_case': 'lowercase',
  'strip_accents': 'strip_accents',
  'tokenize_chinese_chars': 'handle_chinese_chars',
  'clean_text': 'clean_text',
}
# WordPiece's other settings that change ids -> the values that do not.
WORDPIECE = {
  'do_basic_tokenize': (True,),
  'wordpieces_prefix': ('##',),
  'subword_tokenizer_type': ('wordpiece',),
  'word_tokenizer_type': ('basic',),
  'max_input_chars_per_word': (100,),
}
SENTENCE_PIECE = {'do_lower_case': (False,), 'sp_model_kwargs': ({},)}
# Classes of transformers that split text as each kind does, without the ending
# Tokenizer or TokenizerFast.
CLASSES = {
  'wordpiece': (
    *('Bert', 'DistilBert', 'Electra', 'ConvBert', 'MobileBert', 'Lxmert'),
    *('SqueezeBert', 'RetriBert', 'Splinter', 'LayoutLM', 'DPRReader'),
    *('DPRQuestionEncoder', 'DPRContextEncoder', 'Realm'),
  ),
  'byte_bpe': (
    *('GPT2', 'Roberta', 'Bart', 'Longformer', 'LED', 'CodeGen', 'Mvp'),
    *('Blenderbot', 'Deberta', 'OPT'),
  ),
  'unigram': ('T5', 'MT5'),
  'bpe': ('Llama', 'LLaMA'),
}
GENERIC = ('PreTrained', 'TokenizersBackend')


def read(folder: str) -> Found:
  """The settings in a folder."""
  found = {CONFIG: {}, MAP: {}, ADDED: {}}
  for name in found:
    if os.path.exists(path := os.path.join(folder, name)):
      found[name] = read_json(path)
  return found


def begins(folder: str) -> bool:
  """Whether transformers puts BOS before a text, by a tokenizer's files.

  tokenizer_config.json may say so; else the post-processor of tokenizer.json
  does it, or not. A SentencePiece model alone is read as LLaMA's, with BOS.
  """
  given = read(folder)[CONFIG].get('add_bos_token')
  if isinstance(given, bool):
    return given
  path = os.path.join(folder, 'tokenizer.json')
  if os.path.exists(path):
    return _begins(read_json(path).get('post_processor') or {})
  return any(name.endswith('.model') for name in os.listdir(folder))


def _begins(processor):
  """Whether a post-processor of tokenizer.json begins with a special token."""
  steps = processor.get('processors') or ()
  first = (processor.get('single') or [{}])[0]
  return (
    'cls' in processor or 'SpecialToken' in first or any(map(_begins, steps))
  )


def apply(
  content: dict, found: Found, kind: str, folder: str, whole: bool = False
) -> dict:
  """The content of a tokenizer.json, with the settings beside it applied.

  `found` is from `read`, `folder` for messages. If `whole`, the content was
  read from a tokenizer.json, whose own settings must agree with `found`; else
  it was made of plain files. Raises ValueError if a setting changes ids and
  cannot be followed.
  """
  config = found[MAP] | found[CONFIG]
  where = os.path.join(folder, CONFIG)
  if not whole:
    _check_class(config, kind, where)
  if kind == 'wordpiece':
    _check_wordpiece(config, where, whole)
    content = _normalized(content, config, where, whole)
  elif kind == 'byte_bpe' and isinstance(config.get('add_prefix_space'), bool):
    content = _prefix_space(content, config['add_prefix_space'], where, whole)
  return _with_tokens(content, found, kind, folder)


def check_sentence_piece(
  found: Found, kind: str, folder: str, pieces: dict[str, int]
) -> None:
  """Raises ValueError for settings beside a .model that give other ids.

  `pieces` is piece -> id. Added tokens must be among them, or T5's sentinels.
  """
  config, where = found[CONFIG], os.path.join(folder, CONFIG)
  _check_class(config, kind, where)
  _check(config, SENTENCE_PIECE, where)
  for token in _tokens(found, folder):
    name, i = token['content'], token['id']
    own = pieces.get(name, pieces.get(f'▁{name}'))
    if own != i and not (own is None and name.startswith('<extra_id_')):
      raise ValueError(
        f'{folder}: the token {name!r} was added as id {i}, where the .model'
        f' has {"none" if own is None else f"id {own}"}. Give a tokenizer.json'
        ' that has it instead.'
      )


def _check(config, allowed, where):
  for key, values in allowed.items():
    if config.get(key) is not None and config[key] not in values:
      raise ValueError(
        f'{where}: {key}={config[key]!r} gives other ids than'
        f' {values[0]!r}, the only value that is supported.'
      )


def _check_class(config, kind, where):
  found = config.get('tokenizer_class')
  name = str(found).removesuffix('Fast').removesuffix('Tokenizer')
  if found is not None and name not in (*CLASSES[kind], *GENERIC):
    raise ValueError(
      f'{where}: tokenizer_class={found!r} may split text differently from'
      f' data.tokenizer_kind={kind!r}. Give a tokenizer.json, or remove the key'
      ' if both split text alike.'
    )


def _check_wordpiece(config, where, whole):
  """Raises ValueError for settings that BERT's normalizer has no field for."""
  for role in ('pad', 'unk', 'cls', 'sep', 'mask'):
    name, usual = _text(config.get(f'{role}_token')), f'[{role.upper()}]'
    if name not in (None, usual):
      raise ValueError(
        f'{where}: {role}_token={name!r}, but rows have {usual}.'
      )
  if whole:  # transformers follows the file too
    return
  _check(config, WORDPIECE, where)
  kept = {*(config.get('never_split') or ())} - _special(config)
  if kept:
    raise ValueError(
      f'{where}: never_split={sorted(kept)} keeps words whole, which is not'
      ' supported. Remove the key, or give a tokenizer.json.'
    )


def _normalized(content, config, where, whole):
  """The content with BERT's settings in its normalizer."""
  own = content.get('normalizer') or {}
  changed = {key: config[key] for key in NORMALIZER if key in config}
  for key, value in changed.items():
    if type(value) is not bool and (key, value) != ('strip_accents', None):
      raise ValueError(f'{where}: {key}={value!r} must be true or false.')
  if own.get('type') != 'BertNormalizer':  # a tokenizer.json's own steps
    return content
  made = own | {NORMALIZER[key]: value for key, value in changed.items()}
  if not whole:
    return content | {'normalizer': made}
  for key in changed:
    ours, theirs = (_effective(n)[NORMALIZER[key]] for n in (own, made))
    if ours != theirs:
      raise ValueError(
        f'{where} says {key}={changed[key]}, but tokenizer.json'
        f' says {NORMALIZER[key]}={own[NORMALIZER[key]]}. They give different'
        ' ids: set both to the same value.'
      )
  return content


def _effective(normalizer):
  """A normalizer's fields; strip_accents=null becomes what lowercase says."""
  strip = normalizer.get('strip_accents')
  strip = normalizer['lowercase'] if strip is None else strip
  return normalizer | {'strip_accents': strip}


def _prefix_space(content, wanted, where, whole):
  """The content with byte-level BPE's add_prefix_space set to `wanted`."""
  step = content['pre_tokenizer'] or {}
  steps = step.get('pretokenizers', [step])
  own = any(part.get('add_prefix_space') for part in steps)
  if own == wanted:
    return content
  if whole:
    raise ValueError(
      f'{where} says add_prefix_space={wanted}, but tokenizer.json says {own}.'
      ' They give different ids: set both to the same value.'
    )
  return content | {'pre_tokenizer': step | {'add_prefix_space': wanted}}


def _with_tokens(content, found, kind, folder):
  """The content with the tokens that the settings add to the vocabulary."""
  known = {t['content']: t for t in content.get('added_tokens') or ()}
  vocab = json_format.vocabulary(content['model'])
  ids = json_format.all_ids(content)
  for token in _tokens(found, folder):
    name, i = token['content'], token['id']
    if ids.get(name, i) != i:
      raise ValueError(
        f'{folder}: the token {name!r} was added as id {i}, but it has id'
        f' {ids[name]} in the vocabulary.'
      )
    own = known.get(name)
    if own and not own['special'] and not token['special']:
      differ = [x for x in FLAGS if x in token and token[x] != own.get(x)]
      if differ:
        raise ValueError(
          f'{folder}: {differ[0]} of the added token {name!r} is'
          f' {token[differ[0]]} in {CONFIG} and {own.get(differ[0])} in'
          ' tokenizer.json. Set both to the same value.'
        )
    ids[name] = i
    known.setdefault(name, token)
  files = found[CONFIG], found[MAP]
  for name in sorted(_special(*files, roles=()) - ids.keys()):
    raise ValueError(
      f'{folder}: the special token {name!r} has no id in the vocabulary: give'
      f' it one in {ADDED}, or remove it.'
    )
  for name in _special(*files) & ids.keys():
    plain = {'id': ids[name], 'content': name} | FLAGS
    known[name] = known.get(name, plain) | {'special': True}
  for name, token in known.items():
    # WordPiece matches such a token in the same places as a piece.
    everywhere = token.get('normalized') and not token.get('single_word')
    as_piece = name in vocab or (kind == 'wordpiece' and everywhere)
    splits = kind in ('wordpiece', 'unigram') and not token['special']
    if splits and not as_piece:
      raise ValueError(
        f'{folder}: the added token {name!r} is not a piece of the vocabulary,'
        ' and would match other places of a text than in transformers. Remove'
        ' it, or add it to the vocabulary.'
      )
  tokens = sorted(known.values(), key=lambda token: token['id'])
  return content | {'added_tokens': tokens}


def _tokens(found, folder):
  """The tokens that the settings add, by id."""
  special, tokens = _special(found[CONFIG], found[MAP]), {}
  for name, i in found[ADDED].items():
    own = {'normalized': name not in special, 'special': name in special}
    tokens[name] = {'id': i, 'content': name} | FLAGS | own
  added = found[CONFIG].get('added_tokens_decoder') or {}
  try:
    for i, token in added.items():
      own = {x: token.get(x, False) for x in (*FLAGS, 'special')}
      name = token['content']
      tokens[name] = {'id': int(i), 'content': name} | own
  except (TypeError, KeyError, ValueError, AttributeError):
    raise ValueError(
      f'{folder}: added_tokens_decoder in {CONFIG} has an entry that is not a'
      ' token.'
    ) from None
  for name, token in tokens.items():
    if type(token['id']) is not int:
      raise ValueError(f'{folder}: {name!r} has id {token["id"]!r} in {ADDED}.')
  return sorted(tokens.values(), key=lambda token: token['id'])


def _special(*configs, roles=tuple(json_format.SPECIALS)):
  """The special tokens that files name, in one of the roles or without one."""
  names = set()
  for config in configs:
    names |= {_text(config.get(f'{role}_token')) for role in roles}
    for key in ('additional_special_tokens', 'extra_special_tokens'):
      more = config.get(key) or ()
      more = more.values() if isinstance(more, dict) else more
      names |= {_text(token) for token in more}
  return names - {None}


def _text(token):
  """The text of a token that is a string or an object."""
  return token.get('content') if isinstance(token, dict) else token
