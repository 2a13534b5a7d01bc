"""Which tokenizer a config means: a file's, a token cache's, or a new one."""

import dataclasses
import os

from input_pipeline.config import DataConfig
from input_pipeline.sources import opening, paths
from input_pipeline.sources.cache import TokenCache
from input_pipeline.sources.manifest import (
  check_beside,
  read_manifest,
  tokenizer_path,
)
from input_pipeline.streams import chunks, corpus, mixture
from input_pipeline.tokenizers import kinds, sentence_piece
from input_pipeline.tokenizers.interface import (
  Tokenizer,
  check_size,
  check_specials,
)
from input_pipeline.tokenizers.numbers import Numbers


def path_in(workdir: str, kind: str) -> str:
  """The path of a workdir's tokenizer, for data.tokenizer_kind."""
  usual = os.path.join(workdir, kinds.file_name(kind))
  # A run with SentencePiece's kinds may have been given a tokenizer.json.
  whole = os.path.join(workdir, 'tokenizer.json')
  found = paths.exists(whole) and not paths.exists(usual)
  return whole if found else usual


def prepare(
  config: DataConfig, seed: int, vocab_size: int, workdir: str | None
) -> Tokenizer:
  """The tokenizer, which is saved in the workdir if it is not there.

  It is data.tokenizer, or a token cache's, or trained on the source. One
  process calls this before the others open the data. Raises ValueError when the
  workdir has another tokenizer, or it does not fit the model's table or the
  objective.
  """
  if config.source == 'synthetic':
    return Numbers(vocab_size, config.sentinels, config.masks)
  kind = config.sentinels, config.tokenizer_kind, config.lowercase
  path = workdir and path_in(workdir, config.tokenizer_kind)
  kept = path and paths.exists(path)
  wanted = None
  given = config.tokenizer or _cached(config)
  if given and not (kept and not paths.exists(given)):
    with paths.local(given) as copy:
      wanted = kinds.load(copy, *kind)
  if kept:
    try:
      with paths.local(path) as copy:
        tokenizer = kinds.load(copy, *kind)
    except ValueError as error:
      again = 'it is loaded' if given else 'the same data train the same one'
      raise ValueError(
        f"{error} Bring the run's own file back, or delete it: {again} again."
      ) from error
    if wanted and wanted.fingerprint != tokenizer.fingerprint:
      raise ValueError(
        f'data.tokenizer={given!r} is not the tokenizer that'
        f' --workdir={workdir} was begun with ({path}). Take another workdir.'
      )
  else:
    tokenizer = wanted or train(config, seed, vocab_size)
  check_size(tokenizer, vocab_size)
  check_specials(tokenizer, config)
  if path and not kept:
    kinds.save(tokenizer, os.path.join(workdir, tokenizer.file))
  return tokenizer


def train(
  config: DataConfig, seed: int, vocab_size: int, seen: list[str] | None = None
) -> Tokenizer:
  """A tokenizer of the config's kind, trained on a sample of all sources.

  Each source gives as much text as its rate says. A list `seen` gets an entry
  for each document that is read: '', or the report of a bad one. Raises
  ValueError when there is no text or too little.
  """
  seen = [] if seen is None else seen
  if config.source == 'synthetic':
    raise ValueError(
      "data.source='synthetic' has no text to train a tokenizer on."
    )
  opened = []
  for key, name, _ in config.sources:
    source = opening.open_source(
      name, seed, vocab_size, config.sentinels, key, config.text_field,
      config.task_folder,
    )  # fmt: skip
    if source.tokenized:
      raise ValueError(
        f'{key}={name!r} holds tokens and no text to train a tokenizer on: name'
        ' the source that it was made from.'
      )
    opened.append(source)
  limit = (vocab_size - config.sentinels) * sentence_piece.BYTES_PER_PIECE
  rates = mixture.rates(config, opened)
  failures = []

  def texts():
    try:
      for source, rate in zip(opened, rates, strict=True):
        yield from _sample(source, limit * rate, config.holdout, seen)
    except ValueError as error:  # the trainer would report that it has no text
      failures.append(error)
      raise

  try:
    return kinds.train(
      texts(), vocab_size, config.sentinels, config.tokenizer_kind,
      config.lowercase, config.masks, config.normalization, config.lossless,
    )  # fmt: skip
  except ValueError as error:
    left_out = list(filter(None, seen))
    if left_out and not failures:
      bad = f'{len(left_out)} of {len(seen)} documents cannot be read.'
      both = [f'{bad} {left_out[0]}', error.args[0].strip()]
      if 2 * len(left_out) < len(seen):  # there is text, but too little
        both.reverse()
      error = ValueError(' '.join(both))
    raise (failures or [error])[0] from None


def _sample(source, size, holdout, seen):
  """About `size` characters from files spread over a source; see train."""
  count = len(source.files)
  chosen = range(0, count, max(1, count // 16))
  for file in chosen:
    left = size // len(chosen)
    for index, (line, record) in enumerate(source.records(file, 0)):
      if not chunks.kept(index, holdout, False):
        continue
      try:
        text = source.text(record).decode()
      except ValueError as error:  # raised when the document is read as data
        seen.append(corpus.describe(source.place(file, line), error))
        continue
      seen.append('')
      yield text
      left -= len(text)
      if left <= 0:
        break


def check_cache(
  config: DataConfig,
  seed: int,
  vocab_size: int,
  tokenizer: Tokenizer,
  source: TokenCache,
  name: str,
) -> None:
  """Raises ValueError unless a cache has the ids of this run's tokenizer.

  `name` is the cache's in messages.
  """
  known = source.manifest
  if known['sentences'] != config.sentences:
    forms = {True: 'sentence by sentence', False: 'whole'}
    raise ValueError(
      f'{name} holds documents {forms[known["sentences"]]}, but'
      f' data.objective={config.objective!r} needs them'
      f' {forms[config.sentences]}: prepare another cache with this config.'
    )
  if tokenizer.fingerprint != known['tokenizer']:
    # Sentinels that a run adds to the vocabulary change no id of a text.
    own = dataclasses.replace(config, tokenizer=source.tokenizer)
    own = prepare(own, seed, vocab_size, None)
    if own.fingerprint != tokenizer.fingerprint:
      raise ValueError(
        f'{name} was made with another tokenizer, {source.tokenizer}, than'
        " this run has. data.tokenizer='' takes the cache's."
      )


def _cached(config):
  """The path of the tokenizer in the token cache that is read; '' for none.

  Raises ValueError when that tokenizer is damaged.
  """
  for key, name, _ in config.sources:
    kind, _, folder = name.partition(':')
    if kind == 'cache':
      folder, where = opening.cache_folder(folder), f'{key}={name!r}'
      manifest = read_manifest(folder, where)
      check_beside(folder, manifest, where)
      return tokenizer_path(folder, manifest)
  return ''
