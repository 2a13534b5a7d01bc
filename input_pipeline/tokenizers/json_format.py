"""The content of a tokenizer.json, as the tokenizers library defines it.

Every vocabulary except a SentencePiece .model is turned into such a content,
which a workdir keeps and whose hash is the fingerprint.
"""

import functools
import itertools
import json
from collections.abc import Sequence

import numpy as np

Named = Sequence[tuple[str, int]]  # tokens, as (name, id)
# Names of special tokens; a vocabulary's first one counts.
SPECIALS = {
  'pad': ('[PAD]', '<pad>', '<|padding|>'),
  'bos': ('<s>', '<|begin_of_text|>', '<|endoftext|>'),
  'eos': ('</s>', '<|endoftext|>', '<|end_of_text|>', '[SEP]'),
  'unk': ('[UNK]', '<unk>'),
  'cls': ('[CLS]', '<s>'),
  'sep': ('[SEP]', '</s>'),
  'mask': ('[MASK]', '<mask>'),
}
SPECIAL = {name for names in SPECIALS.values() for name in names}
BYTE_LEVEL = {
  'type': 'ByteLevel',
  'add_prefix_space': False,
  'trim_offsets': True,
  'use_regex': True,
}
# The flags of a token that is found in a text as it is.
FLAGS = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized'), False)


@functools.cache
def byte_characters() -> list[str]:
  """GPT-2's 256 characters that stand for bytes, in order of the bytes.

  Bytes that are printable in Latin-1 stand for themselves. The others, in
  order, are the characters from 256 on: 'Ġ' is a space.
  """
  own = {*range(33, 127), *range(161, 173), *range(174, 256)}
  others = iter(range(256, 512))
  return [chr(b if b in own else next(others)) for b in range(256)]


def wordpiece(ids: dict[str, int], lowercase: bool) -> dict:
  """BERT's content, cased or uncased; `ids` is piece -> id."""
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


def byte_bpe(ids: dict[str, int], merges: Sequence[Sequence[str]]) -> dict:
  """GPT-2's content: piece -> id, and pairs of pieces to merge, in order."""
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


def template(before: Named, after: Named, double: bool = False) -> dict:
  """A post-processor that puts special tokens around texts.

  The second text of a pair gets `after`, and `before` too if `after` is empty.
  `double` repeats `after` between them:

    BERT     [CLS] first [SEP] second [SEP]
    RoBERTa  <s> first </s> </s> second </s>   (double)
  """

  def named(tokens, kind):
    return [{'SpecialToken': {'id': n, 'type_id': kind}} for n, _ in tokens]

  def text(letter, kind):
    return [{'Sequence': {'id': letter, 'type_id': kind}}]

  second = 0 if double else 1
  single = [*named(before, 0), *text('A', 0), *named(after, 0)]
  between = named(after, 0) if double else []
  opened = [] if after else named(before, second)
  rest = [*between, *opened, *text('B', second), *named(after, second)]
  return {
    'type': 'TemplateProcessing',
    'single': single,
    'pair': single + rest,
    'special_tokens': {
      name: {'id': name, 'ids': [i], 'tokens': [name]}
      for name, i in (*before, *after)
    },
  }


def to_json(content: dict) -> bytes:
  """The bytes of a tokenizer.json."""
  return json.dumps(content, ensure_ascii=False, separators=(',', ':')).encode()


def canonical(
  content: dict, sentinels: int, name: str
) -> tuple[dict, dict[str, int]]:
  """The content in one fixed form with all ids in the model, and piece -> id.

  `sentinels` are appended if there are none. Raises ValueError, naming `name`,
  if ids do not count from 0, or the post-processor adds tokens that the
  vocabulary lacks.
  """
  model = dict(content['model'])
  vocab, merges = model.pop('vocab'), model.pop('merges', None)
  added = content.get('added_tokens') or []
  ids = dict(sorted(all_ids(content).items(), key=lambda item: item[1]))
  if list(ids.values()) != list(range(len(ids))):
    wrong = next(n for n, i in enumerate(ids.values()) if n != i)
    raise ValueError(
      f'{name}: ids must count from 0, each once, but id {wrong} is'
      f' {"missing" if wrong not in ids.values() else "there twice"}: the file'
      ' was edited or cut short. Fetch it again.'
    )
  if not sentinel_names(ids):
    names = (f'<extra_id_{n}>' for n in reversed(range(sentinels)))
    ids |= {sentinel: n for n, sentinel in enumerate(names, len(ids))}

  special = {token['content'] for token in added if token['special']}
  special |= SPECIAL & ids.keys() | {*sentinel_names(ids)}
  others = {token['content']: token for token in added}
  tokens = [
    {'id': ids[text], 'content': text, **FLAGS}
    | ({} if text in special else _sorted(others[text]))
    | {'special': text in special}
    for text in sorted(special | others.keys(), key=ids.get)
  ]
  model = _sorted(model) | {'vocab': ids}
  if isinstance(vocab, list):  # a unigram's; added pieces need no score
    scores = dict(vocab)
    model['vocab'] = [[piece, scores.get(piece, 0.0)] for piece in ids]
  if merges is not None:
    model['merges'] = _pairs(merges)
  content = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': tokens,
    'normalizer': _sorted(content.get('normalizer')),
    'pre_tokenizer': _sorted(content.get('pre_tokenizer')),
    'post_processor': _post_processor(content, ids, name),
    'decoder': _sorted(content.get('decoder')),
    'model': model,
  }
  return content, ids


def sentinel_names(ids: dict[str, int]) -> list[str]:
  """The names of <extra_id_0>, ..., which may begin with the '▁' of a word."""
  both = ((f'<extra_id_{n}>', f'▁<extra_id_{n}>') for n in itertools.count())
  found = (next((x for x in names if x in ids), '') for names in both)
  return list(itertools.takewhile(bool, found))


def find_sentinels(ids: dict[str, int], wanted: int, name: str) -> np.ndarray:
  """Ids of <extra_id_0>, <extra_id_1>, ... up to the first missing one.

  Raises ValueError if there are fewer than data.sentinels.

  >>> ids = {'a': 0, '<extra_id_1>': 1, '<extra_id_0>': 2}
  >>> find_sentinels(ids, 2, 'file').tolist()
  [2, 1]
  """
  found = [ids[sentinel] for sentinel in sentinel_names(ids)]
  if len(found) < wanted:
    raise ValueError(
      f'{name} has {len(found)} <extra_id_N> pieces, but'
      f' data.sentinels={wanted}. Give a vocabulary without any, to which they'
      " are added (T5's is published so, with 32,000 pieces), or lower"
      ' data.sentinels, and data.length with it if rows need more.'
    )
  return np.array(found, np.int32)


def vocabulary(model: dict) -> dict[str, int]:
  """Piece -> id of a tokenizer.json's model. ValueError if a piece is twice."""
  vocab = model['vocab']
  if isinstance(vocab, dict):
    return dict(vocab)
  ids = {piece: i for i, (piece, _) in enumerate(vocab)}
  if len(ids) < len(vocab):
    raise ValueError('a piece is there twice')
  return ids


def all_ids(content: dict) -> dict[str, int]:
  """Piece -> id of a tokenizer.json's model and its added tokens."""
  added = content.get('added_tokens') or []
  return vocabulary(content['model']) | {t['content']: t['id'] for t in added}


def decides(content: dict) -> dict:
  """Everything in a tokenizer.json that decides ids of texts, in one form."""
  added = content.get('added_tokens') or []
  model = {
    key: value
    for key, value in content['model'].items()
    if key not in ('type', 'vocab', 'merges', 'unk_token')
    and value not in (None, '', False)
  }
  found = [token for token in added if not token['special']]
  step = content.get('pre_tokenizer')
  if step and step['type'] == 'ByteLevel':
    step = BYTE_LEVEL | step | {'trim_offsets': True}
  return {
    'ids': all_ids(content),
    'merges': _pairs(content['model'].get('merges')),
    'model': model,
    'normalizer': _sorted(content.get('normalizer')),
    'pre_tokenizer': _sorted(step),
    'found in text': sorted(found, key=lambda token: token['id']),
    'special': SPECIAL | {t['content'] for t in added if t['special']},
  }


def _pairs(merges):
  return [m.split(' ') if isinstance(m, str) else list(m) for m in merges or ()]


def _post_processor(content, ids, name):
  """The part that adds special tokens in transformers; rows do not use it."""
  found = _sorted(content.get('post_processor'))
  try:
    added = list(_added_ids(found))
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f'{name}: the tokenizers library has no such post_processor ({error}):'
      ' the file was edited. Fetch it again.'
    ) from None
  for token, i in added:
    if ids.get(token) != i:
      raise ValueError(
        f'{name}: post_processor adds {token!r} as id {i!r}, but that token has'
        f' id {ids.get(token)!r}: the file was edited. Fetch it again.'
      )
  return found


def _added_ids(step):
  """(token, id) of each token that a post-processor adds."""
  if step is None or step['type'] == 'ByteLevel':
    return
  if step['type'] == 'Sequence':
    for part in step['processors']:
      yield from _added_ids(part)
  elif step['type'] == 'TemplateProcessing':
    for item in (*step['single'], *step['pair']):
      if 'SpecialToken' in item:
        token = step['special_tokens'][item['SpecialToken']['id']]
        yield from zip(token['tokens'], token['ids'], strict=True)
  elif step['type'] in ('BertProcessing', 'RobertaProcessing'):
    yield from (step['cls'], step['sep'])
  else:
    raise ValueError(f'type {step["type"]!r}')


def _sorted(value):
  return json.loads(json.dumps(value, sort_keys=True))
