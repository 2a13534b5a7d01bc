"""The pipeline: a source's rows, in order, as host arrays with their cursors.

Rows come from `data.streams` independent streams. Row p of the global batch
belongs to stream p // (batch / streams), and carries the cursor (epoch, shard,
block, row), or a mixture's, from which its stream goes on. A block of documents
is turned into rows by one pure function of (config, seed, stream, epoch, shard,
block), so that neither prefetching nor the number of hosts changes a bit of a
batch.
"""

import contextlib
import copy
import dataclasses
import json
import threading

import numpy as np

from configs.differences import differences as key_differences
from input_pipeline import tokenizing
from input_pipeline.objectives import features, shares
from input_pipeline.objectives import rows as row_making
from input_pipeline.sources import cache, opening
from input_pipeline.streams import assembly, chunks, mixture, seeds
from input_pipeline.streams.corpus import Corpus
from input_pipeline.tokenizers import kinds

FORMAT = 5  # of the rows: raised when the same config gives other rows
CURSOR = np.array([0, 0, 0, -1], np.int32)  # before a stream's first row


def open_data(
  config, seed, vocab_size, eval_source='', workdir=None, *, family
):
  """Opens the source, the tokenizer and the evaluation's source.

  config is a DataConfig, vocab_size the rows of the model's table, eval_source
  a source or '' for the held-out documents (for tfds: its validation split),
  family the model's topology. A tokenizer is loaded from the workdir, or made
  as tokenizing.prepare says. Raises ValueError naming the key or the file that
  is wrong.
  """
  return Data(config, seed, vocab_size, eval_source, workdir, family)


def batch_shapes(config, family):
  """Name -> (shape without the batch, dtype), without opening any data.

  family is the model's topology. Raises ValueError as rows.batch_shapes does.
  """
  cursor = config.cursor_shape[1:], np.int32
  return row_making.batch_shapes(config, family) | {'cursor': cursor}


class Data:
  """Opened data; see open_data. Attributes: shapes (name -> (shape without the
  batch, dtype)), tokenizer, start_id (a text's first, or None), fingerprint
  (JSON-able), corpora and evaluated (see corpus: what is trained on, one of
  each source, and what is evaluated on)."""

  def __init__(self, config, seed, vocab_size, eval_source, workdir, family):
    self.config, self.seed, self.family = config, seed, family
    self.shapes = batch_shapes(config, family)
    self.tokenizer = tokenizing.prepare(config, seed, vocab_size, workdir)
    self.start_id = kinds.start_id(self.tokenizer, config)
    reserved = kinds.Numbers.SPECIALS if config.masks else 0
    arguments = seed, vocab_size, config.sentinels + reserved
    self._open(eval_source, vocab_size, arguments)
    fingerprints = [corpus.source.fingerprint for corpus in self.corpora]
    evaluated = [
      corpus.source.fingerprint
      for corpus in self.evaluated
      if not corpus.held_out
    ]
    fingerprint = {
      'format': FORMAT,
      'seed': seed,
      'data': _described(config),
      'tokenizer': self.tokenizer.fingerprint,
      'source': fingerprints if config.mixture else fingerprints[0],
      'eval_source': evaluated[0] if len(evaluated) == 1 else evaluated or '',
    }
    # As a checkpoint gives it back: JSON has no tuples.
    self.fingerprint = json.loads(json.dumps(fingerprint))
    self._shares = shares.Shares(config)
    self._threads = config.workers
    self._slots = threading.Semaphore(self._threads)

  def _open(self, eval_source, vocab_size, arguments):
    """Opens the sources, and what of them or beside them is held out."""
    config = self.config
    self.corpora, self.evaluated = [], []

    def opened(name, key):
      source = opening.open_source(name, *arguments, key, config.text_field)
      if isinstance(source, cache.TokenCache):
        self._check_cache(source, vocab_size, f'{key}={name!r}')
      return source

    for key, name, _ in config.sources:
      source = opened(name, key)
      own = eval_source or source.validation
      holdout = 0 if own else config.holdout
      made = Corpus(key, name, source, config, holdout, limit=config.documents)
      self.corpora.append(made)
      if holdout:
        made = Corpus(key, name, source, config, holdout, True)
      elif not own:
        raise ValueError(
          f"data.holdout=0 and eval.source='' leave nothing of {key}={name!r}"
          ' to evaluate on: hold documents out (100: every hundredth) or give'
          ' eval.source.'
        )
      elif not eval_source:
        made = Corpus('eval.source', own, opened(own, 'eval.source'), config)
      if holdout or not eval_source:
        self.evaluated.append(made)
    if eval_source:
      if 'synthetic' in (eval_source, config.source) and (
        eval_source != config.source
      ):
        raise ValueError(
          f'eval.source={eval_source!r} and data.source={config.source!r} have'
          ' different tokens: both or neither must be synthetic.'
        )
      source = opened(eval_source, 'eval.source')
      self.evaluated.append(Corpus('eval.source', eval_source, source, config))

  def _check_cache(self, source, vocab_size, name):
    """Raises ValueError unless a cache has ids as this run's tokenizer's."""
    known, config = source.manifest, self.config
    if known['sentences'] != config.sentences:
      forms = {True: 'sentence by sentence', False: 'whole'}
      raise ValueError(
        f'{name} holds documents {forms[known["sentences"]]}, but'
        f' data.objective={config.objective!r} needs them'
        f' {forms[config.sentences]}: prepare another cache with this config.'
      )
    if self.tokenizer.fingerprint != known['tokenizer']:
      # Sentinels that a run adds to the vocabulary change no id of a text.
      own = dataclasses.replace(config, tokenizer=source.tokenizer)
      own = tokenizing.prepare(own, self.seed, vocab_size, None)
      if own.fingerprint != self.tokenizer.fingerprint:
        raise ValueError(
          f'{name} was made with another tokenizer, {source.tokenizer}, than'
          " this run has. data.tokenizer='' takes the cache's."
        )

  def start(self):
    """Cursors before the first row; their shape is config.cursor_shape."""
    first = CURSOR
    if self.config.mixture:
      first = mixture.start(len(self.corpora), CURSOR)
    return np.tile(first, [self.config.streams, 1])

  def phase(self, config):
    """The same data in the rows of a phase; see DataConfig.phases."""
    other = copy.copy(self)
    other.config = config
    other.shapes = batch_shapes(config, self.family)
    other._shares = shares.Shares(config)
    return other

  def next_block(self, cursor):
    """Cursors past the block that each is in: where a new phase begins."""
    cursor = np.array(cursor)
    places = cursor[:, cursor.shape[1] % 4 :].reshape(len(cursor), -1, 4)
    places[..., 2] += places[..., 3] >= 0  # a block that has been begun
    places[..., 3] = -1
    return np.hstack(
      [cursor[:, : cursor.shape[1] % 4], places.reshape(len(cursor), -1)]
    )

  def report(self):
    """Documents read by this process so far; how many of them are bad.

    Of a mixture also the documents of each source, documents_0 and so on.
    """
    read = [*self.corpora, *self.evaluated]
    found = {
      'documents': sum(corpus.documents for corpus in read),
      'skipped': sum(len(corpus.skipped) for corpus in read),
    }
    if self.config.mixture:
      for number, corpus in enumerate(self.corpora):
        found[f'documents_{number}'] = corpus.documents
    return found

  def batches(self, cursor, rows, everywhere=bool):
    """Endless batches after `cursor` (see start), of the given rows.

    `rows` are the positions in the global batch that this host needs, sorted.
    Yields a dict of arrays [len(rows), ...]; see `shapes`. With data.epochs, a
    stream at its end gives padding until all streams are at theirs: then, after
    the same batch on all hosts, SourceEnded is raised. `everywhere` tells of a
    truth on this host whether it is one on every host.
    """
    cursor, shape = np.asarray(cursor), self.config.cursor_shape
    if cursor.shape != shape:
      raise ValueError(
        f'The cursor has shape {cursor.shape}, but'
        f' data.streams={self.config.streams} need {list(shape)}.'
      )
    block, repeat = self.config.block, self.config.repeats
    readers = [corpus.reader(block, repeat) for corpus in self.corpora]
    ends = []
    batches = self._batches(
      rows,
      self.config.batch,
      lambda s: self._stream(readers, s, cursor[s], ends),
    )
    return (
      self._until(batches, ends, everywhere) if self.config.epochs else batches
    )

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
    # Small blocks share a small split out evenly; a pair needs other documents.
    least = 8 if self.config.objective == 'sentence_pairs' else 1
    block = max(least, self.config.block // self.config.streams)
    readers = [corpus.reader(block) for corpus in self.evaluated]
    return self._batches(rows, batch, lambda s: self._evaluated(readers, s))

  def _until(self, batches, ends, everywhere):
    """The batches up to the one that is padding on all hosts."""
    with contextlib.closing(batches):
      for batch in batches:
        if everywhere(not batch['segments'].any()):
          raise ends[0]
        yield batch

  def _stream(self, readers, stream, cursor, ends):
    """Blocks of rows of one stream, after its cursor; padding past its end,
    which is added to `ends`."""
    found = False
    try:
      for rows in self._own_rows(readers, stream, cursor):
        if len(rows):
          found = True
          cursor = features.split(rows, self.shapes)['cursor'][-1]
        yield rows
    except chunks.SourceEnded as end:
      if not found and np.array_equal(cursor, self.start()[stream]):
        self._shares.report_empty(stream)
      ends.append(end)
    while True:
      rows = features.padding(self.shapes, 64)
      features.split(rows, self.shapes)['cursor'][:] = cursor
      yield rows

  def _own_rows(self, readers, stream, cursor):
    """Blocks of rows of one stream, after its cursor, up to its end."""
    if not self.config.mixture:
      return self._rows_of(readers, 0, stream, cursor)
    places = cursor[1:].reshape(-1, 4)
    parts = [
      self._rows_of(readers, n, stream, place) for n, place in enumerate(places)
    ]
    rates = [rate for *_, rate in self.config.sources]
    return mixture.merge(parts, self.seed, stream, rates, cursor, self.shapes)

  def _rows_of(self, readers, number, stream, cursor):
    """Blocks of one source's rows in a stream, those up to the cursor's row
    left out."""
    place, row = tuple(cursor[:3]), int(cursor[3])
    own = (number,) if self.config.mixture else ()
    last = place[0]  # epoch in which there were rows
    for at, (file, block), records in chunks.walk(
      readers[number], stream, self.config.streams, self.seed, cursor,
      self.config.epochs,
    ):  # fmt: skip
      drawn = seeds.ROWS_TRAIN, stream, *at, *own
      if self.config.duplicates:  # alike in whatever stream and order
        kind = at[0] % self.config.duplicates
        drawn = seeds.ROWS_DUPLICATES, file, block, kind, *own
      rows = self._rows(self.corpora[number], file, records, drawn, at)
      self._shares.add(len(records), features.split(rows, self.shapes))
      if len(rows):
        last = at[0]
      elif at[0] - last > chunks.EMPTY * self.config.streams:
        raise ValueError(
          f'{readers[number].name} gave stream {stream} of data.streams='
          f'{self.config.streams} no row in {at[0] - last} epochs: its'
          ' documents are empty, unreadable, too short or, where pairs are'
          ' made, alone in their file. Give others.'
        )
      if at == place:
        rows = rows[row + 1 :]
      yield rows

  def _evaluated(self, readers, stream):
    """Blocks of one stream of the evaluation split, then padding for ever."""
    for number, reader in enumerate(readers):
      own = (number,) if len(readers) > 1 else ()
      for at, (file, _), records in chunks.walk(
        reader, stream, self.config.streams, None, CURSOR
      ):
        place = seeds.ROWS_EVALUATION, stream, *at, *own
        yield self._rows(self.evaluated[number], file, records, place, at)
    while True:
      yield features.padding(self.shapes, 64)

  def _rows(self, corpus, file, records, place, at):
    """The pure function of a block: its records -> rows with their cursors."""
    with self._slots:
      documents = corpus.documents_of(file, records, self.tokenizer)
      rng = seeds.generator(self.seed, seeds.ROWS, *place)
      rows = row_making.make_rows(
        documents, self.tokenizer, self.config, self.shapes, rng, self.family
      )
    cursor = features.split(rows, self.shapes)['cursor']
    cursor[:, :3], cursor[:, 3] = at, np.arange(len(rows))
    return rows

  def _batches(self, rows, batch, blocks):
    rows = np.asarray(rows)
    if not len(rows) or rows[0] < 0 or rows[-1] >= batch:
      raise ValueError(f'rows {rows} are not positions in {batch} rows.')
    share = batch // self.config.streams
    wanted = {int(s): rows[rows // share == s] % share for s in rows // share}
    makers = [lambda s=s: blocks(s) for s in wanted]
    arguments = makers, list(wanted.values()), share, self.shapes
    if self.config.source == 'synthetic':
      return assembly.plain(*arguments)
    return assembly.graph(*arguments, self._threads)


def differences(old, new, path=''):
  """What differs between two fingerprints, a readable line each."""
  found = []
  for key, a, b in key_differences({path: old}, {path: new}):
    key = key.removeprefix('.')
    if not (isinstance(a, list) and isinstance(b, list)):
      hint = ' (what each version makes otherwise: CHANGELOG.md)'
      found.append(f'{key}: {a!r}, now {b!r}{hint * (key == "format")}')
    elif len(a) != len(b):
      found.append(f'{key}: {_entries(a, b)}, now {_entries(b, a)}')
    else:
      for n, pair in enumerate(zip(a, b, strict=True)):
        found += differences(*pair, f'{key}[{_file(pair[0]) or n}]')
  return found


def _entries(entries, others):
  """How many there are, and the files among them that others lack."""
  known = {_file(entry) for entry in others}
  own = [name for name in map(_file, entries) if name and name not in known]
  shown = ', '.join(own[:3]) + ', ...' * (len(own) > 3)
  return f'{len(entries)} entries' + f' ({shown} among them)' * bool(own)


def _file(entry):
  """The name of the file that an entry of a source's fingerprint is of."""
  return entry.get('file') if isinstance(entry, dict) else None


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
    *('tokenizer', 'tokenizer_kind', 'lowercase', 'normalization', 'lossless'),
    *('max_bad_share', 'threads', 'epochs'),
  ):
    del fields[key]
  fields['source'] = config.source.partition(':')[0]
  fields['mixture'] = [
    [name.partition(':')[0], rate] for name, rate in config.mixture
  ]
  # Runs without them knew none of them.
  for key in ('mixture', 'documents', 'loss_on_inputs'):
    if not fields[key]:
      del fields[key]
  if config.text_field == 'text':
    del fields['text_field']
  return fields
