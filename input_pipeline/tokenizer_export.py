"""A tokenizer in the files by which transformers' AutoTokenizer makes the same.

The vocabulary is the file of a workdir, byte for byte; tokenizer_config.json
names the class that reads it as it is meant, and the special tokens.
"""

import json
import os

from input_pipeline import tokenizer_json

CONFIG = 'tokenizer_config.json'
# What transformers and the first publishers call the files of a tokenizer.
NAMES = (
  *('tokenizer.json', CONFIG, 'special_tokens_map.json', 'added_tokens.json'),
  *('vocab.txt', 'vocab.json', 'merges.txt', 'encoder.json', 'vocab.bpe'),
  *('spiece.model', 'tokenizer.model', 'sentencepiece.bpe.model', 'dict.txt'),
)


def published(folder):
  """Name -> content of a tokenizer's files in a published checkpoint."""
  found = {}
  for name in NAMES:
    path = os.path.join(folder, name)
    if os.path.exists(path):
      with open(path, 'rb') as file:
        found[name] = file.read()
  return found


def files(tokenizer, kind):
  """Name -> content of the files for a tokenizer of `kind`.

  Of SentencePiece, transformers has classes for models like T5's (unigram) and
  LLaMA's (bpe); raises ValueError, which says why, for one unlike them.
  """
  if kind == 'unigram':
    name, config = 'spiece.model', _unigram(tokenizer)
  elif kind == 'bpe':
    name, config = 'tokenizer.model', _bpe(tokenizer)
  else:
    name, config = 'tokenizer.json', _json(tokenizer, kind)
  text = json.dumps(config, indent=2, sort_keys=True) + '\n'
  return {name: tokenizer.model, CONFIG: text.encode()}


def _unigram(t):
  names = [t.piece(i) for i in range(3)]
  if names != ['<pad>', '</s>', '<unk>'] or t.unk != 2:
    raise ValueError(
      f"its first pieces are {', '.join(names)}, where transformers has T5's "
      '<pad>, </s>, <unk>'
    )
  one, two = t.encode_batch(['a b', 'a  b'])
  if list(one) != list(two):
    raise ValueError(
      "it keeps spaces side by side, which transformers' T5 joins"
    )
  # The sentinels are in the model already.
  return {'tokenizer_class': 'T5Tokenizer', 'extra_ids': 0}


def _bpe(t):
  text = 'ﬁ  a'  # a letter that normalization takes apart, and spaces
  ids = t.encode_batch([text])[0]
  if t.decode(ids) != text or not t.piece(ids[0]).startswith('▁'):
    raise ValueError(
      "it changes characters, joins spaces or spells no bytes, unlike LLaMA's"
    )
  # It merges pieces of equal score in an order of its own: of Mistral's
  # vocabulary, 4 of 5,552 lines of WikiText 2 and books come out otherwise.
  config = {
    'tokenizer_class': 'LlamaTokenizer',
    'legacy': True,
    'add_bos_token': t.bos is not None,
  }
  roles = ('bos', 'eos', 'unk')
  return config | {f'{role}_token': _name(t, role) for role in roles}


def _json(t, kind):
  config = {'tokenizer_class': 'PreTrainedTokenizerFast'}
  normalizer = json.loads(t.model)['normalizer'] or {}
  bert = kind == 'wordpiece' and normalizer.get('type') == 'BertNormalizer'
  if bert and None not in (t.cls, t.sep, t.mask):  # it adds the first two
    config = {
      'tokenizer_class': 'BertTokenizer',
      'do_lower_case': normalizer['lowercase'],
      'strip_accents': normalizer['strip_accents'],
      'tokenize_chinese_chars': normalizer['handle_chinese_chars'],
    }
  for role, names in tokenizer_json.SPECIALS.items():
    if _name(t, role) in names:
      config[f'{role}_token'] = _name(t, role)
  return config


def _name(t, role):
  i = getattr(t, role)
  return None if i is None else t.piece(i)
