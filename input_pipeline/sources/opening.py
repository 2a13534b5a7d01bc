"""From a source's name in a config to the source."""

import os

from input_pipeline import choices
from input_pipeline.sources import (
  cache,
  documentation,
  files,
  labelled,
  parquet,
  paths,
  preferences,
  synthetic,
  tfds,
)


def open_source(
  name: str,
  seed: int,
  vocab_size: int,
  sentinels: int,
  key: str = 'data.source',
  field: str = 'text',
  task_folder: str = '',
  single: bool = False,
  chats: bool = False,
) -> files.Source:
  """The source called `name`, which the config's `key` gives.

  Only synthetic data needs seed, vocab_size and sentinels; `field` is
  data.text_field, `task_folder` data.task_folder; with `single` preferences are
  answers one by one, and with `chats` their prompts are chats. Raises
  ValueError naming `key` if there is no such source.
  """
  kind, _, rest = name.partition(':')
  where = f'{key}={name!r}'
  if kind == 'json':
    return files.JsonFiles(_match(rest, where), field)
  if kind == 'parquet':
    return parquet.ParquetFiles(_match(rest, where), field, where)
  if kind == 'text':
    return files.TextFiles(_match(rest, where))
  if kind == 'textfile':
    return files.WholeFiles(_match(rest, where), name)
  if kind == 'cache':
    return cache.TokenCache(cache_folder(rest), key)
  if kind == 'tfds':
    return tfds.TfdsDataset(rest, key, field)
  if kind == 'preferences':
    return preferences.Preferences(_match(rest, where), where, single, chats)
  if kind == 'task':
    return labelled.Labelled(rest, task_folder, key)
  if name == 'docs':
    return documentation.Documentation()
  if name == 'synthetic':
    return synthetic.Synthetic(seed, vocab_size, sentinels)
  known = choices.either(choices.SOURCES.values())
  raise ValueError(f'{where} must be {known}.')


def cache_folder(name: str) -> str:
  """The folder of a cache, from what follows 'cache:' in its name."""
  return os.path.expanduser(name).rstrip('/')


def _match(pattern, where):
  try:
    found = paths.match(pattern)
  except OSError as error:
    raise ValueError(f'{where}: {error}') from error
  if not found:
    raise ValueError(f'{where} matches no file.')
  return found
