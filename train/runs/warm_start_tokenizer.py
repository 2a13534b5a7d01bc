"""The tokenizer of a run that begins with another's parameters."""

import os
from typing import Any

from input_pipeline import tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.sources import paths
from input_pipeline.tokenizers import kinds
from input_pipeline.tokenizers.interface import Tokenizer
from train.runs.warm_start import Origin

# Keys that decide how a tokenizer's file is read, as older runs have them.
KEYS = {'tokenizer_kind': 'unigram', 'lowercase': False}
TAKEN = 'Leave data.tokenizer out: the tokenizer of the parameters is taken.'


def prepare(
  origin: Origin | None,
  data: DataConfig,
  seed: int,
  vocab_size: int,
  folder: str,
) -> str:
  """As `tokenizing.prepare`, but copies the source's tokenizer if it is used.

  Returns what to report; '' if nothing. Raises ValueError as
  `tokenizing.prepare`; if the source has no tokenizer, or one that is not of
  the config's kind, or not the one it was trained with; or if the tokenizer
  that the config names does not fit: see `compare`.
  """
  own = data, seed, vocab_size, folder
  if not origin or data.source == 'synthetic':
    tokenizing.prepare(*own)
    return ''
  if origin.own and (not data.tokenizer or not _other_keys(origin, data)):
    _check_keys(origin, data)
    tokenizing.prepare(*own)
    _check_theirs(origin)
    return ''
  if not data.tokenizer:
    _copy(origin, data, folder)
    tokenizing.prepare(*own)
    return f'The tokenizer is that of {origin.folder}.'
  tokenizer = tokenizing.prepare(*own)
  if not paths.exists(_path(origin)):
    return _without_file(origin, data, tokenizer)
  theirs = _tokenizer(origin, data.sentinels)
  return compare(tokenizer, theirs, _path(origin), data)


def compare(
  ours: Tokenizer, theirs: Tokenizer, path: str, data: DataConfig
) -> str:
  """A line that says whether two tokenizers are the same.

  Args:
    ours: of the run, from data.tokenizer.
    theirs: that of the parameters that the run begins with.
    path: of the latter.
    data: the run's config.

  Raises:
    ValueError: they have different numbers of pieces; or, where a task is
      learned, an id stands for different pieces. Pretraining on text may go on
      with other pieces.
  """
  named, own = f'data.tokenizer={data.tokenizer!r}', f'that of {path}'
  if ours.fingerprint == theirs.fingerprint:
    return f'{named} is the tokenizer of the parameters, {path}.'
  if ours.size != theirs.size:
    raise ValueError(
      f'{named} has {ours.size} pieces, {own} {theirs.size}: the parameters '
      f'are of the latter. {TAKEN}'
    )
  both = ((i, ours.piece(i), theirs.piece(i)) for i in range(ours.size))
  other = next((x for x in both if x[1] != x[2]), None)
  if other is None:
    return (
      f'{named} has the pieces of {path}, in another file: it may split a text '
      'in another way.'
    )
  differing = f'id {other[0]} is {other[1]!r}, and was {other[2]!r}'
  if data.scored:
    raise ValueError(
      f'{named} is not the tokenizer of the parameters, {path}: {differing}. '
      f'{TAKEN}'
    )
  return (
    f'{named} is not the tokenizer of the parameters, {path}: ids have other '
    f'meanings than in their training ({differing}).'
  )


def _without_file(origin, data, tokenizer):
  """As `compare`, where only the hash of the source's tokenizer is known."""
  named, path = f'data.tokenizer={data.tokenizer!r}', _path(origin)
  if _settings(origin)['source'] == 'synthetic':
    return f'{origin.folder} holds no tokenizer to compare {named} with.'
  if tokenizer.fingerprint == origin.saved['data']['tokenizer']:
    return f'{named} is the tokenizer of the parameters, {path}.'
  if data.scored:
    raise ValueError(
      f'{path} is missing, and {named} is not the tokenizer that the '
      "parameters were trained with: their hashes differ. Bring the run's own "
      f'file back. {TAKEN}'
    )
  return f'{path} is missing, so {named} cannot be compared with it.'


def _copy(origin: Origin, data: DataConfig, folder: str) -> None:
  path = _path(origin)
  if _settings(origin)['source'] == 'synthetic' or not paths.exists(path):
    raise ValueError(
      f'--init_from: {origin.folder} holds no tokenizer ({path}), and a new '
      'one would not fit its parameters: set data.tokenizer.'
    )
  _check_keys(origin, data)
  _check_theirs(origin)
  paths.write(os.path.join(folder, os.path.basename(path)), paths.read(path))


def _settings(origin: Origin) -> dict[str, Any]:
  """The source's group `data`."""
  return KEYS | origin.saved['config']['data']


def _other_keys(origin: Origin, data: DataConfig) -> dict[str, Any]:
  """Those of KEYS that differ: key -> the source's value."""
  theirs = _settings(origin)
  return {k: theirs[k] for k in KEYS if theirs[k] != getattr(data, k)}


def _check_keys(origin: Origin, data: DataConfig) -> None:
  for key, value in _other_keys(origin, data).items():
    raise ValueError(
      f'data.{key} is {getattr(data, key)!r}, but the tokenizer of '
      f'{origin.folder} has {value!r}: give --config.data.{key}={value}, or '
      'name another tokenizer in data.tokenizer.'
    )


def _check_theirs(origin: Origin) -> None:
  tokenizer = _tokenizer(origin, _settings(origin)['sentinels'])
  if tokenizer.fingerprint != origin.saved['data']['tokenizer']:
    raise ValueError(
      f'{_path(origin)} is not the tokenizer that the checkpoint was trained '
      "with: bring the run's own file back."
    )


def _path(origin: Origin) -> str:
  kind = _settings(origin)['tokenizer_kind']
  return tokenizing.path_in(origin.folder, kind)


def _tokenizer(origin: Origin, sentinels: int) -> Any:
  kind, lowercase = (_settings(origin)[key] for key in KEYS)
  return kinds.load(_path(origin), sentinels, kind, lowercase)
