"""Writes a tokenizer as files that transformers' AutoTokenizer reads.

The vocabulary is the file of a workdir. tokenizer_config.json names the class
that gives the same ids, the special tokens, and how many tokens the model can
read. With special tokens on, transformers puts the same tokens around a text as
the run's rows, or as the published tokenizer that the run began with.
"""

import json
import os
import pathlib
from collections.abc import Sequence

from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import json_format, subwords
from input_pipeline.tokenizers.interface import Tokenizer
from input_pipeline.tokenizers.settings import (
  ADDED,
  CHAT_TEMPLATE,
  CONFIG,
  MAP,
)

# Names of a tokenizer's files, transformers' and the first publishers'.
NAMES = (
  *('tokenizer.json', CONFIG, MAP, ADDED, CHAT_TEMPLATE),
  *('vocab.txt', 'vocab.json', 'merges.txt', 'encoder.json', 'vocab.bpe'),
  *('spiece.model', 'tokenizer.model', 'sentencepiece.bpe.model', 'dict.txt'),
)


def published(folder: str) -> dict[str, bytes]:
  """Name -> content of a tokenizer's files in a published checkpoint."""
  there = [name for name in NAMES if os.path.exists(f'{folder}/{name}')]
  return {name: pathlib.Path(folder, name).read_bytes() for name in there}


def around(
  tokenizer: Tokenizer, config: DataConfig, family: str, start: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Ids before and after a text in a run's rows.

  `start` begins a decoder's row; None if rows begin with the text itself.
  """
  if config.masks:
    return (tokenizer.cls,), (tokenizer.sep,)
  before = () if family == 'encoder_decoder' or start is None else (start,)
  return before, (tokenizer.eos,) if config.pairs else ()


def files(
  tokenizer: Tokenizer,
  kind: str,
  before: Sequence[int] = (),
  after: Sequence[int] = (),
  length: int = 0,
  types: bool = False,
  chat_template: str = '',
) -> dict[str, bytes]:
  """Name -> content of the files for a tokenizer of `kind`.

  Args:
    before, after: ids around a text in the run's rows; see `around`.
    length: most tokens that the model can read; 0: not stated.
    types: whether the model has token types.
    chat_template: how chats are written, Jinja; '': it has none.

  Raises:
    ValueError: nothing in transformers gives these ids. For SentencePiece it
      has a class for models like T5's (unigram), and its library can imitate
      models like LLaMA's (bpe). The message says why.
  """
  beside = {}
  if tokenizer.file == 'tokenizer.json':
    content, config = _json(tokenizer, kind, before, after, types)
    found = {'tokenizer.json': json_format.to_json(content)}
  elif kind == 'unigram':
    config = _unigram(tokenizer, before, after)
    found = {'spiece.model': tokenizer.model}
  else:
    content, config = _bpe(tokenizer, before, after)
    found = {'tokenizer.json': json_format.to_json(content)}
    beside[tokenizer.file] = tokenizer.model  # what SentencePiece itself reads
  if length:
    config['model_max_length'] = length
  if chat_template:
    config['chat_template'] = chat_template
  text = json.dumps(config, indent=2, sort_keys=True) + '\n'
  return found | {CONFIG: text.encode()} | beside


def _unigram(t, before, after):
  names = [t.piece(i) for i in range(3)]
  if names != ['<pad>', '</s>', '<unk>'] or t.unk != 2:
    raise ValueError(
      f"its first pieces are {', '.join(names)}, but transformers needs T5's "
      '<pad>, </s>, <unk>'
    )
  one, two = t.encode_batch(['a b', 'a  b'])
  if list(one) != list(two):
    raise ValueError(
      "it keeps several spaces in a row, which transformers' T5 joins"
    )
  if (before, after) != ((), (t.eos,)):
    raise ValueError(
      f'rows have {_names(t, before)} before a text and {_names(t, after)} '
      "after it, but transformers' T5 has no token and </s>"
    )
  # The sentinels are in the model already.
  return {'tokenizer_class': 'T5Tokenizer', 'extra_ids': 0}


def _bpe(t, before, after):
  """The contents of tokenizer.json and tokenizer_config.json."""
  text = 'ﬁ  a'  # a letter that normalization changes, and two spaces
  ids = t.encode_batch([text])[0]
  if t.decode(ids) != text or not t.piece(ids[0]).startswith('▁'):
    raise ValueError(
      'it changes characters, joins spaces or does not spell rare characters '
      "in bytes, unlike LLaMA's"
    )
  content = _merging(t.processor)
  sides = [[(t.piece(i), i) for i in ids] for ids in (before, after)]
  if before or after:
    content['post_processor'] = json_format.template(*sides)
  config = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'model_input_names': ['input_ids', 'attention_mask'],
    'clean_up_tokenization_spaces': False,
  }
  found = {role: _name(t, role) for role in json_format.SPECIALS}
  if before and before[0] != t.cls:
    found['bos'] = t.piece(before[0])
  if t.pad in (t.bos, t.eos):
    del found['pad']
  config |= {f'{role}_token': name for role, name in found.items() if name}
  return content, config


def _merging(p):
  """The content of a tokenizer.json for a SentencePiece BPE.

  SentencePiece merges the pair whose piece has the highest score; ties go to
  the first in the text. The library goes by the rank of a pair. In Mistral's
  model all runs of spaces have the same score and grow from the left, so of
  such pairs the one with the longer left side ranks first.
  """
  pieces = [p.id_to_piece(i) for i in range(len(p))]
  special, plain = [], {}
  for i, piece in enumerate(pieces):
    if p.is_control(i) or p.is_unknown(i) or '<extra_id_' in piece:
      special.append(i)
    elif not p.is_byte(i):
      plain[piece] = p.get_score(i)
  halves = ((x[:n], x[n:]) for x in plain for n in range(1, len(x)))
  merges = sorted(
    (pair for pair in halves if pair[0] in plain and pair[1] in plain),
    key=lambda pair: (-plain[''.join(pair)], -len(pair[0])),
  )
  flags = json_format.FLAGS | {'special': True}
  ids = {piece: i for i, piece in enumerate(pieces)}
  content = json_format.byte_bpe(ids, merges)
  return content | {
    'version': '1.0',
    'added_tokens': [{'id': i, 'content': pieces[i]} | flags for i in special],
    'normalizer': {
      'type': 'Sequence',
      'normalizers': [
        {'type': 'Prepend', 'prepend': '▁'},
        {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
      ],
    },
    'pre_tokenizer': None,
    'post_processor': None,
    'decoder': {
      'type': 'Sequence',
      'decoders': [
        {'type': 'Replace', 'pattern': {'String': '▁'}, 'content': ' '},
        {'type': 'ByteFallback'},
        {'type': 'Fuse'},
        {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0},
      ],
    },
    'model': content['model']
    | {
      'unk_token': pieces[p.unk_id()],
      'fuse_unk': True,
      'byte_fallback': True,
      'continuing_subword_prefix': None,
      'end_of_word_suffix': None,
    },
  }


def _json(t, kind, before, after, types):
  """The contents of tokenizer.json and tokenizer_config.json."""
  content = json.loads(t.model)
  # If rows add nothing, keep what a published tokenizer adds.
  if (before, after) not in (((), ()), _adds(content)):
    double = bool(after) and not types  # RoBERTa's
    sides = [[(t.piece(i), i) for i in ids] for ids in (before, after)]
    content['post_processor'] = json_format.template(*sides, double)
  type_ids = ['token_type_ids'] if types else []
  config = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'model_input_names': ['input_ids', *type_ids, 'attention_mask'],
  }
  if kind == 'wordpiece' and _is_bert(t, content, before, after):
    normalizer = content['normalizer']
    config = {
      'tokenizer_class': 'BertTokenizer',
      'do_lower_case': normalizer['lowercase'],
      'strip_accents': normalizer['strip_accents'],
      'tokenize_chinese_chars': normalizer['handle_chinese_chars'],
    }
  for role, names in json_format.SPECIALS.items():
    if _name(t, role) in names:
      config[f'{role}_token'] = _name(t, role)
  if before and before[0] != t.cls:
    config['bos_token'] = t.piece(before[0])
  return content, config


def _is_bert(t, content, before, after):
  """Whether transformers' BertTokenizer, with its 3 settings, gives the ids."""
  plain = json_format.wordpiece(content['model']['vocab'], False)
  own = content['normalizer'] or {}
  for name in ('lowercase', 'strip_accents', 'handle_chinese_chars'):
    plain['normalizer'][name] = own.get(name)
  steps = 'normalizer', 'pre_tokenizer', 'model'
  return (
    all(content[step] == plain[step] for step in steps)
    and all(token['special'] for token in content['added_tokens'])
    and (before, after) == ((t.cls,), (t.sep,))
    and None not in (t.cls, t.sep, t.mask)
  )


def _adds(content):
  """Ids that a post-processor puts before and after a text."""
  made = subwords.open_content(content)
  plain = made.encode('a', add_special_tokens=False).ids
  ids = made.encode('a').ids
  at = next(n for n in range(len(ids)) if ids[n : n + len(plain)] == plain)
  return tuple(ids[:at]), tuple(ids[at + len(plain) :])


def _names(t, ids):
  return ' '.join(t.piece(i) for i in ids) or 'no token'


def _name(t, role):
  i = getattr(t, role)
  return None if i is None else t.piece(i)
