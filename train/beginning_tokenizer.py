"""The tokenizer of a run that begins with another's parameters."""

import os

from input_pipeline import paths, tokenizers, tokenizing
from input_pipeline.config import DataConfig
from train.beginning import Origin


def prepare(
  origin: Origin | None,
  data: DataConfig,
  seed: int,
  vocab_size: int,
  folder: str,
) -> str:
  """As `tokenizing.prepare`, with the source's tokenizer where it is taken.

  Returns:
    What is to be said about it; '' where there is nothing.

  Raises:
    ValueError: as `tokenizing.prepare`; or the source has none to take, its
      tokenizer is not the one that the config's keys describe or that it was
      trained with, or one that the config names has more or fewer pieces.
  """
  if not origin or origin.own or data.source == 'synthetic':
    tokenizing.prepare(data, seed, vocab_size, folder)
    return ''
  if not data.tokenizer:
    _bring_tokenizer(origin, data, folder)
    tokenizing.prepare(data, seed, vocab_size, folder)
    return f'The tokenizer is that of {origin.folder}.'
  tokenizer = tokenizing.prepare(data, seed, vocab_size, folder)
  named = f'data.tokenizer={data.tokenizer!r}'
  if not os.path.exists(_tokenizer_path(origin)):
    return f'{origin.folder} holds no tokenizer to compare {named} with.'
  theirs = _tokenizer(origin, data.sentinels)
  if theirs.size != tokenizer.size:
    raise ValueError(
      f'{named} has {tokenizer.size} pieces, the tokenizer of {origin.folder} '
      f"{theirs.size}: they must have equally many. data.tokenizer='' takes "
      'that one.'
    )
  if theirs.fingerprint == tokenizer.fingerprint:
    return f'{named} is the tokenizer of {origin.folder}.'
  return (
    f'{named} is another tokenizer than that of {origin.folder}: ids have '
    'other meanings than in its training.'
  )


def _bring_tokenizer(origin, data, folder):
  theirs = origin.saved['config']['data']
  path = _tokenizer_path(origin)
  if theirs['source'] == 'synthetic' or not os.path.exists(path):
    raise ValueError(
      f'--init_from: {origin.folder} holds no tokenizer ({path}), and a new '
      'one would not fit its parameters: set data.tokenizer.'
    )
  for key, default in (('tokenizer_kind', 'unigram'), ('lowercase', False)):
    value = theirs.get(key, default)
    if value != getattr(data, key):
      raise ValueError(
        f'data.{key} is {getattr(data, key)!r}, but the tokenizer of '
        f'{origin.folder} has {value!r}: give --config.data.{key}={value}, or '
        'name another tokenizer in data.tokenizer.'
      )
  tokenizer = _tokenizer(origin, theirs['sentinels'])
  if tokenizer.fingerprint != origin.saved['data']['tokenizer']:
    raise ValueError(
      f'{path} is not the tokenizer that the checkpoint was trained with: '
      "bring the run's own file back."
    )
  with open(path, 'rb') as file:
    paths.write(os.path.join(folder, os.path.basename(path)), file.read())


def _tokenizer_path(origin):
  kind = origin.saved['config']['data'].get('tokenizer_kind', 'unigram')
  return os.path.join(origin.folder, tokenizers.file_name(kind))


def _tokenizer(origin, sentinels):
  theirs = origin.saved['config']['data']
  kind = theirs.get('tokenizer_kind', 'unigram')
  lowercase = theirs.get('lowercase', False)
  return tokenizers.load(_tokenizer_path(origin), sentinels, kind, lowercase)
