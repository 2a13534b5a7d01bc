"""The content of a tokenizer.json, as the tokenizers library defines it.

Whatever files a vocabulary is published as, it becomes such a content, from
which ids follow: that is what a workdir holds and what is hashed.
"""

import functools
import json

from input_pipeline.vocabulary import find_sentinels

# Names of special tokens, the first one that a vocabulary has.
SPECIALS = {
  'pad': ('[PAD]', '<pad>', '<|padding|>'),
  'bos': ('<s>', '<|begin_of_text|>', '<|endoftext|>'),
  'eos': ('</s>', '<|endoftext|>', '<|end_of_text|>', '[SEP]'),
  'unk': ('[UNK]', '<unk>'),
  'cls': ('[CLS]', '<s>'),
  'sep': ('[SEP]', '</s>'),
  'mask': ('[MASK]', '<mask>'),
}
BYTE_LEVEL = {
  'type': 'ByteLevel',
  'add_prefix_space': False,
  'trim_offsets': True,
  'use_regex': True,
}


@functools.cache
def byte_characters():
  """GPT-2's 256 characters that stand for bytes, in order of the bytes.

  Bytes that are printable characters of Latin-1 stand for themselves, the
  others, in order, for the characters from 256 on: 'Ġ' is a space.
  """
  own = {*range(33, 127), *range(161, 173), *range(174, 256)}
  others = iter(range(256, 512))
  return [chr(b if b in own else next(others)) for b in range(256)]


def wordpiece(ids, lowercase):
  """The content of a tokenizer.json: piece -> id, cased or uncased as BERT."""
  return {
    'normalizer': {
      'type': 'BertNormalizer',
      'clean_text': True,
      'handle_chinese_chars': True,
      'strip_accents': None,  # as lowercase says
      'lowercase': lowercase,
    },
    'pre_tokenizer': {'type': 'BertPreTokenizer'},
    'decoder': {'type': 'WordPiece', 'prefix': '##', 'cleanup': True},
    'model': {
      'type': 'WordPiece',
      'unk_token': '[UNK]',
      'continuing_subword_prefix': '##',
      'max_input_chars_per_word': 100,
      'vocab': ids,
    },
  }


def byte_bpe(ids, merges):
  """The content of a tokenizer.json: piece -> id, pairs of pieces in order."""
  return {
    'normalizer': None,
    'pre_tokenizer': BYTE_LEVEL,
    'decoder': BYTE_LEVEL,
    'model': {
      'type': 'BPE',
      'dropout': None,
      'unk_token': None,
      'continuing_subword_prefix': '',
      'end_of_word_suffix': '',
      'fuse_unk': False,
      'byte_fallback': False,
      'ignore_merges': False,
      'vocab': ids,
      'merges': merges,
    },
  }


def to_json(content):
  return json.dumps(content, ensure_ascii=False, separators=(',', ':')).encode()


def canonical(content, sentinels, name):
  """The content in a form of its own, all ids in the model; and these."""
  model = dict(content['model'])
  ids = dict(model.pop('vocab'))
  merges = model.pop('merges', None)
  added = content.get('added_tokens') or []
  ids |= {token['content']: token['id'] for token in added}
  ids = dict(sorted(ids.items(), key=lambda item: item[1]))
  if list(ids.values()) != list(range(len(ids))):
    wrong = next(n for n, i in enumerate(ids.values()) if n != i)
    raise ValueError(
      f'{name}: ids must count from 0, each once, but id {wrong} is'
      f' {"missing" if wrong not in ids.values() else "there twice"}: the file'
      ' was edited or cut short. Fetch it again.'
    )
  if not len(find_sentinels(ids)):
    names = (f'<extra_id_{n}>' for n in reversed(range(sentinels)))
    ids |= {sentinel: len(ids) + n for n, sentinel in enumerate(names)}

  special = {token['content'] for token in added if token['special']}
  special |= {n for names in SPECIALS.values() for n in names if n in ids}
  special |= {f'<extra_id_{n}>' for n in range(len(find_sentinels(ids)))}
  others = {token['content']: token for token in added}
  flags = ('single_word', 'lstrip', 'rstrip', 'normalized')
  tokens = [
    {'id': ids[text], 'content': text, **dict.fromkeys(flags, False)}
    | ({} if text in special else _sorted(others[text]))
    | {'special': text in special}
    for text in sorted(special | others.keys(), key=ids.get)
  ]
  pairs = [m.split(' ') if isinstance(m, str) else m for m in merges or ()]
  content = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': tokens,
    'normalizer': _sorted(content.get('normalizer')),
    'pre_tokenizer': _sorted(content.get('pre_tokenizer')),
    'post_processor': None,
    'decoder': _sorted(content.get('decoder')),
    'model': _sorted(model)
    | {'vocab': ids}
    | ({} if merges is None else {'merges': pairs}),
  }
  return content, ids


def _sorted(value):
  return json.loads(json.dumps(value, sort_keys=True))
