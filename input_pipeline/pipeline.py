"""The pipeline: a source's rows, in order, as host arrays with their cursors.

Rows come from `data.streams` independent streams. Row p of the global batch
belongs to stream p // (batch / streams), and carries the cursor (epoch, shard,
block, row) from which its stream goes on. A block of documents is turned into
rows by one pure function of (config, seed, stream, epoch, shard, block), so
that neither prefetching nor the number of hosts changes a bit of a batch.
"""

import copy
import dataclasses
import json
import os
import threading

import numpy as np

from input_pipeline import (
  assembly,
  blocks,
  features,
  sources,
  streams,
  tokenizers,
)

FORMAT = 2  # of the rows: raised when the same config gives other rows
CURSOR = np.array([0, 0, 0, -1], np.int32)  # before a stream's first row
WARNINGS = 5  # unreadable documents shown


def tokenizer_path(config, workdir):
  """Where the tokenizer lies in a workdir."""
  return os.path.join(workdir, tokenizers.file_name(config.tokenizer_kind))


def prepare_tokenizer(config, seed, vocab_size, workdir):
  """Puts the tokenizer into the workdir, if it is not there.

  Loads data.tokenizer, or trains one on the source. To be called by one
  process, before the others open the data. Returns the tokenizer. Raises
  ValueError when the workdir already holds another one than data.tokenizer, or
  it does not suit the model's table or the objective.
  """
  if config.source == 'synthetic':
    return tokenizers.Numbers(vocab_size, config.sentinels, config.masks)
  kind = config.sentinels, config.tokenizer_kind, config.lowercase
  path = workdir and tokenizer_path(config, workdir)
  kept = path and os.path.exists(path)
  wanted = None
  if config.tokenizer and not (kept and not os.path.exists(config.tokenizer)):
    wanted = tokenizers.load(config.tokenizer, *kind)
  if kept:
    tokenizer = tokenizers.load(path, *kind)
    if wanted and wanted.fingerprint != tokenizer.fingerprint:
      raise ValueError(
        f'data.tokenizer={config.tokenizer!r} is not the tokenizer that'
        f' --workdir={workdir} was begun with ({path}). Take another workdir.'
      )
  else:
    tokenizer = wanted or train_tokenizer(config, seed, vocab_size)
  tokenizers.check_size(tokenizer, vocab_size)
  tokenizers.check_specials(tokenizer, config)
  if path and not kept:
    tokenizers.save(tokenizer, path)
  return tokenizer


def open_data(
  config, seed, vocab_size, eval_source='', workdir=None, *, family
):
  """Opens the source, the tokenizer and the evaluation's source.

  config is a DataConfig, vocab_size the rows of the model's table, eval_source
  a source or '' for the held-out documents (for tfds: its validation split),
  family the model's topology. A tokenizer is loaded from the workdir, or made
  as prepare_tokenizer says. Raises ValueError naming the key or the file that
  is wrong.
  """
  return Data(config, seed, vocab_size, eval_source, workdir, family)


class Data:
  """Opened data; see open_data. Attributes: shapes (name -> (shape without the
  batch, dtype)), tokenizer, fingerprint (JSON-able)."""

  def __init__(self, config, seed, vocab_size, eval_source, workdir, family):
    self.config, self.seed, self.family = config, seed, family
    self.shapes = blocks.batch_shapes(config, family)
    self.tokenizer = prepare_tokenizer(config, seed, vocab_size, workdir)
    reserved = tokenizers.Numbers.SPECIALS if config.masks else 0
    arguments = seed, vocab_size, config.sentinels + reserved
    self.source = sources.open_source(config.source, *arguments)
    eval_source = eval_source or _validation_split(config, self.source)
    self.holdout = 0 if eval_source else config.holdout
    self.eval_source = self.source
    if eval_source:
      self.eval_source = sources.open_source(
        eval_source, *arguments, key='eval.source'
      )
    elif not config.holdout:
      raise ValueError(
        "data.holdout=0 and eval.source='' leave nothing to evaluate on: hold"
        ' documents out (100: every hundredth) or give eval.source.'
      )
    if self.eval_source.tokenized != self.source.tokenized:
      raise ValueError(
        f'eval.source={eval_source!r} and data.source={config.source!r} have'
        ' different tokens: both or neither must be synthetic.'
      )
    fingerprint = {
      'format': FORMAT,
      'seed': seed,
      'data': _described(config),
      'tokenizer': self.tokenizer.fingerprint,
      'source': self.source.fingerprint,
      'eval_source': eval_source and self.eval_source.fingerprint,
    }
    # As a checkpoint gives it back: JSON has no tuples.
    self.fingerprint = json.loads(json.dumps(fingerprint))
    self._threads = config.threads or os.cpu_count()
    self._slots = threading.Semaphore(self._threads)
    self._documents, self._skipped = 0, set()
    self._lock = threading.Lock()

  def start(self):
    """Cursors [streams, 4] before the first row."""
    return np.tile(CURSOR, [self.config.streams, 1])

  def phase(self, config):
    """The same data in the rows of a phase; see DataConfig.phases."""
    other = copy.copy(self)
    other.config = config
    other.shapes = blocks.batch_shapes(config, self.family)
    return other

  def next_block(self, cursor):
    """Cursors past the block that each is in: where a new phase begins."""
    epoch, shard, block, _ = np.moveaxis(np.asarray(cursor), -1, 0)
    return np.stack([epoch, shard, block + 1, np.full_like(block, -1)], -1)

  def report(self):
    """Documents read by this process so far; how many of them are bad."""
    with self._lock:
      return {'documents': self._documents, 'skipped': len(self._skipped)}

  def batches(self, cursor, rows):
    """Endless batches after `cursor` [streams, 4], of the given rows.

    `rows` are the positions in the global batch that this host needs, sorted.
    Yields a dict of arrays [len(rows), ...]; see `shapes`.
    """
    cursor = np.asarray(cursor)
    if cursor.shape != (self.config.streams, 4):
      raise ValueError(
        f'The cursor has shape {cursor.shape}, but'
        f' data.streams={self.config.streams} need [{self.config.streams}, 4].'
      )
    return self._batches(
      rows, self.config.batch, self._reader(False),
      lambda reader, s: self._stream(reader, s, cursor[s]),
    )  # fmt: skip

  def evaluation(self, rows, batch):
    """The evaluation split once, as batches of `batch` rows, then padding.

    Order and corruption are fixed, and `rows` as in batches(). When all is
    read, batches of weight 0 follow without end.
    """
    if batch % self.config.streams:
      raise ValueError(
        f'An evaluation batch of {batch} rows must be a multiple of'
        f' data.streams={self.config.streams}.'
      )
    return self._batches(rows, batch, self._reader(True), self._evaluated)

  def _reader(self, evaluation):
    config = self.config
    source = self.eval_source if evaluation else self.source
    parts = streams.split_files(len(source.files), config.streams)
    own = evaluation and source is not self.source
    # Small blocks share a small split out evenly.
    block = (
      max(1, config.block // config.streams) if evaluation else config.block
    )
    return streams.BlockReader(
      source, block, parts, 0 if own else self.holdout, evaluation and not own,
      files=2 * config.streams,
    )  # fmt: skip

  def _stream(self, reader, stream, cursor):
    """Blocks of rows of one stream, those up to the cursor's row left out."""
    place, row = tuple(cursor[:3]), int(cursor[3])
    for at, (file, number), records in streams.walk(
      reader, stream, self.config.streams, self.seed, cursor
    ):
      seeds = 0, stream, *at
      if self.config.duplicates:  # alike in whatever stream and order
        seeds = 2, file, number, at[0] % self.config.duplicates
      rows = self._rows(reader.source, file, records, seeds, at)
      if at == place:
        rows = rows[row + 1 :]
      yield rows

  def _evaluated(self, reader, stream):
    """Blocks of one stream of the evaluation split, then padding for ever."""
    for at, (file, _), records in streams.walk(
      reader, stream, self.config.streams, None, CURSOR
    ):
      rows = self._rows(reader.source, file, records, (1, stream, *at), at)
      yield rows
    while True:
      yield features.padding(self.shapes, 64)

  def _rows(self, source, file, records, seeds, at):
    """The pure function of a block: its records -> rows with their cursors."""
    with self._slots:
      documents = self._documents_of(source, file, records)
      rng = np.random.default_rng([self.seed, 3, *seeds])
      rows = blocks.make_rows(
        documents, self.tokenizer, self.config, self.shapes, rng, self.family
      )
    cursor = features.split(rows, self.shapes)['cursor']
    cursor[:, :3], cursor[:, 3] = at, np.arange(len(rows))
    return rows

  def _documents_of(self, source, file, records):
    texts, lines, failures = [], [], {}
    for line, record in records:
      try:
        texts.append(source.text(record))
        lines.append(line)
      except ValueError as error:
        failures[source.files[file], line] = error
    documents = texts
    if not source.tokenized:
      documents = blocks.encode(texts, self.tokenizer, self.config)
    for line, document in zip(lines, documents, strict=True):
      if not len(document):
        failures[source.files[file], line] = 'its text has no token'
    with self._lock:
      self._documents += len(records)
      for place in failures.keys() - self._skipped:
        self._skipped.add(place)  # once, though it is read every epoch
        if len(self._skipped) <= WARNINGS:
          print(_skipped(place, failures[place]), flush=True)
        elif len(self._skipped) == WARNINGS + 1:
          print(
            'More documents are skipped; how many, data/skipped tells in'
            ' metrics.jsonl.',
            flush=True,
          )
      skipped, share = len(self._skipped), self.config.max_bad_share
      if failures and skipped > share * max(self._documents, 1000):
        raise ValueError(
          f'{skipped} of {self._documents} documents are unreadable, more than'
          f' data.max_bad_share={share} of them (of 1000 at least).'
          f' {_skipped(*failures.popitem())}'
        )
    return documents

  def _batches(self, rows, batch, reader, blocks):
    rows = np.asarray(rows)
    if not len(rows) or rows[0] < 0 or rows[-1] >= batch:
      raise ValueError(f'rows {rows} are not positions in {batch} rows.')
    share = batch // self.config.streams
    wanted = {int(s): rows[rows // share == s] % share for s in rows // share}
    makers = [lambda s=s: blocks(reader, s) for s in wanted]
    arguments = makers, list(wanted.values()), share, self.shapes
    if reader.source.tokenized:
      return assembly.plain(*arguments)
    return assembly.graph(*arguments, self._threads)


def differences(old, new, path=''):
  """What differs between two fingerprints, a readable line each."""
  if isinstance(old, dict) and isinstance(new, dict):
    found = []
    for key in sorted(old.keys() | new.keys()):
      inner = f'{path}.{key}' if path else key
      found += differences(old.get(key), new.get(key), inner)
    return found
  if isinstance(old, list) and isinstance(new, list):
    if len(old) != len(new):
      return [f'{path}: {len(old)} entries, now {len(new)}']
    return [
      line
      for n, pair in enumerate(zip(old, new, strict=True))
      for line in differences(*pair, f'{path}[{n}]')
    ]
  return [] if old == new else [f'{path}: {old!r}, now {new!r}']


def global_batch(host_batch, rows, shardings, batch_size):
  """This host's rows -> global jax.Arrays of `batch_size` rows.

  rows are the positions of host_batch's rows in the global batch, sorted;
  shardings is name -> Sharding, and must ask this host for no other rows.
  """
  import jax

  def place(name, values):
    def part(index):
      places = np.arange(batch_size)[index[0]]
      return values[(np.searchsorted(rows, places), *index[1:])]

    shape = (batch_size, *values.shape[1:])
    return jax.make_array_from_callback(shape, shardings[name], part)

  return {name: place(name, values) for name, values in host_batch.items()}


def _described(config):
  """The fields that decide the rows. Where the files lie is none of them, nor
  the tokenizer's path: their contents have fingerprints of their own."""
  fields = dataclasses.asdict(config)
  for key in (
    *('tokenizer', 'tokenizer_kind', 'lowercase'),
    *('max_bad_share', 'threads'),
  ):
    del fields[key]
  fields['source'] = config.source.partition(':')[0]
  return fields


def _skipped(place, error):
  return f'Skipped a document: {place[0]}, line {place[1]}: {error}.'


def train_tokenizer(config, seed, vocab_size):
  """A tokenizer of the config's kind, trained on a sample of its source.

  Raises ValueError when the source has no text or too little.
  """
  if config.source == 'synthetic':
    raise ValueError(
      "data.source='synthetic' has no text to train a tokenizer on."
    )
  source = sources.open_source(
    config.source, seed, vocab_size, config.sentinels
  )
  count = len(source.files)
  chosen = range(0, count, max(1, count // 16))
  limit = (vocab_size - config.sentinels) * tokenizers.BYTES_PER_PIECE

  def texts():
    for file in chosen:
      left = limit // len(chosen)
      for index, (_, record) in enumerate(source.records(file, 0)):
        if not streams.kept(index, config.holdout, False):
          continue
        try:
          text = source.text(record).decode()
        except ValueError:
          continue  # counted and reported when it is read as data
        yield text
        left -= len(text)
        if left <= 0:
          break

  return tokenizers.train(
    texts(), vocab_size, config.sentinels, config.tokenizer_kind,
    config.lowercase, config.masks,
  )  # fmt: skip


def _validation_split(config, source):
  """'' or the evaluation split that a tfds source brings along."""
  if config.source.startswith('tfds:') and 'validation' in source.splits:
    return f'tfds:{source.name}@validation'
  return ''
