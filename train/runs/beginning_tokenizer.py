"""The tokenizer of a run that begins with another's parameters."""

import os

from input_pipeline import tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.sources import paths
from input_pipeline.tokenizers import kinds
from train.runs.beginning import Origin


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
  if not origin or data.source == 'synthetic':
    tokenizing.prepare(data, seed, vocab_size, folder)
    return ''
  if origin.own and (not data.tokenizer or not _other_keys(origin, data)):
    _check_keys(origin, data)
    tokenizing.prepare(data, seed, vocab_size, folder)
    _check_theirs(origin)
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
  _check_keys(origin, data)
  _check_theirs(origin)
  with open(path, 'rb') as file:
    paths.write(os.path.join(folder, os.path.basename(path)), file.read())


def _other_keys(origin, data):
  """The keys that say what kind a tokenizer is of: key -> the source's."""
  theirs = origin.saved['config']['data']
  found = {
    key: theirs.get(key, default)
    for key, default in (('tokenizer_kind', 'unigram'), ('lowercase', False))
  }
  return {key: x for key, x in found.items() if x != getattr(data, key)}


def _check_keys(origin, data):
  for key, value in _other_keys(origin, data).items():
    raise ValueError(
      f'data.{key} is {getattr(data, key)!r}, but the tokenizer of '
      f'{origin.folder} has {value!r}: give --config.data.{key}={value}, or '
      'name another tokenizer in data.tokenizer.'
    )


def _check_theirs(origin):
  tokenizer = _tokenizer(origin, origin.saved['config']['data']['sentinels'])
  if tokenizer.fingerprint != origin.saved['data']['tokenizer']:
    raise ValueError(
      f'{_tokenizer_path(origin)} is not the tokenizer that the checkpoint was '
      "trained with: bring the run's own file back."
    )


def _tokenizer_path(origin):
  kind = origin.saved['config']['data'].get('tokenizer_kind', 'unigram')
  return tokenizing.path_in(origin.folder, kind)


def _tokenizer(origin, sentinels):
  theirs = origin.saved['config']['data']
  kind = theirs.get('tokenizer_kind', 'unigram')
  lowercase = theirs.get('lowercase', False)
  return kinds.load(_tokenizer_path(origin), sentinels, kind, lowercase)
