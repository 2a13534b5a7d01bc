"""The pipeline: a source's rows, in order, as host arrays with their cursors.

Rows come from `data.streams` independent streams, which take turns: row n of
the run belongs to stream n mod streams. A batch has the rows of one stream
after those of another. Each row carries the cursor from which its stream goes
on. One pure function of (config, seed, stream, epoch, shard, chunk)
turns a chunk of documents into rows, so that neither prefetching nor the number
of hosts changes a bit of a batch.
"""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator

import numpy as np

from configs.phases import Phase, kinds_of
from input_pipeline import tokenizing
from input_pipeline.chat import templates
from input_pipeline.config import DataConfig
from input_pipeline.corpora import open_corpora
from input_pipeline.objectives import features, remainders, shares
from input_pipeline.objectives import rows as row_making
from input_pipeline.streams import (
  assembly,
  chunks,
  cursors,
  fingerprints,
  mixture,
  seeds,
)
from input_pipeline.tokenizers.interface import start_id

PADDING = 64  # rows of padding that a stream without documents gives at a time


def open_data(
  config: DataConfig,
  seed: int,
  vocab_size: int,
  eval_source: str = '',
  workdir: str | None = None,
  *,
  family: str,
) -> 'Data':
  """Opens the source, the tokenizer and the evaluation's source.

  An `eval_source` of '' takes the source's own validation split, else its
  held-out documents. `workdir` is a run's folder, which has the tokenizer or
  gets it as tokenizing.prepare says; `vocab_size` counts the rows of the
  model's table, and `family` is its topology. Raises ValueError, which names
  the key or the file that is wrong.
  """
  return Data(config, seed, vocab_size, eval_source, workdir, family)


def batch_shapes(config: DataConfig, family: str) -> dict[str, tuple]:
  """Name -> (shape without the batch, dtype); see rows.batch_shapes.

  `last_of` is there where streams have unequal shares of a batch: the stream
  whose last row of the batch a row is, or `streams` for all other rows.
  """
  shapes = row_making.batch_shapes(config, family)
  shapes['cursor'] = config.cursor_shape[1:], np.int32
  if config.uneven:
    shapes['last_of'] = (), np.int32
  return shapes


class Data:
  """Opened data; see open_data.

  Attributes:
    shapes: name -> (shape without the batch, dtype).
    start_id: the first id of a text, or None.
    template: how chats are written, of tasks and of preferences; or None.
    end_id: the id that ends an answer.
    fingerprint: everything that decides the rows, JSON-able.
    corpora: what is trained on, one for each source; see streams.corpus.
    evaluated: what is evaluated on.
    rates: of a mixture, the share of the rows of each of the corpora.
  """

  def __init__(
    self,
    config: DataConfig,
    seed: int,
    vocab_size: int,
    eval_source: str,
    workdir: str | None,
    family: str,
  ):
    self.config, self.seed, self.family = config, seed, family
    self.shapes = batch_shapes(config, family)
    self.kinds = config.kinds  # a config for each kind of rows
    self.kind = len(self.kinds) - 1  # the kind of the rows made here
    self.tokenizer = tokenizing.prepare(config, seed, vocab_size, workdir)
    self.start_id = start_id(self.tokenizer, config)
    self.template, self.end_id = None, self.tokenizer.eos
    scored = config.scored or eval_source.startswith('task:')
    if config.chat_template or (config.pairs and scored):
      self.template = templates.prepare(config, self.tokenizer, workdir)
      self.end_id = self.template.end
    self.corpora, self.evaluated = open_corpora(
      config, seed, vocab_size, self.tokenizer, eval_source, family,
      self.template,
    )  # fmt: skip
    rows = self.tokenizer, self.shapes, family
    self.rates, uneven = mixture.rates_of_rows(config, self.corpora, *rows)
    self.fingerprint = fingerprints.of(
      config, seed, self.tokenizer.fingerprint, self.corpora, self.evaluated
    )
    if uneven:
      self.fingerprint['rates'] = self.rates
    if config.chat_template:
      self.fingerprint['data']['chat_template'] = self.template.fingerprint
    self._shares = shares.Shares(config)
    self._slots = threading.Semaphore(config.workers)

  def start(self) -> np.ndarray:
    """Cursors before the first row; their shape is config.cursor_shape."""
    streams, mixed = self.config.streams, len(self.config.mixture)
    return cursors.start(streams, len(self.kinds), mixed)

  def phase(self, config: DataConfig, kind: int = 0) -> 'Data':
    """The same data in the batches and the rows of a phase.

    `config` is from DataConfig.at, and `kind` is the number of the phase's kind
    of rows, see configs.phases.kinds_of. A chunk that an earlier phase began
    goes on with what its rows did not hold.
    """
    other = copy.copy(self)
    other.config, other.kind = config, kind
    kept = {
      k: self.shapes[k] for k in ('cursor', 'last_of') if k in self.shapes
    }
    other.shapes = row_making.batch_shapes(config, self.family) | kept
    other._shares = shares.Shares(config)
    return other

  def phases(self) -> list[tuple[Phase, 'Data']]:
    """Every phase of the run, and the data in it."""
    plan = self.config.plan
    return [
      (phase, self.phase(self.config.at(phase), kind))
      for phase, kind in zip(plan, kinds_of(plan), strict=True)
    ]

  def report(self) -> dict[str, int]:
    """Documents that this process has read so far, and how many are bad.

    Of a mixture also the documents of each source, documents_0 and so on. Of
    tasks and preferences also `cut`: how many examples to train on have lost
    tokens, each counted once; and `left_out`, if there are some: those without
    a row.
    """
    read = [*self.corpora, *self.evaluated]
    found = {
      'documents': sum(corpus.documents for corpus in read),
      'skipped': sum(len(corpus.skipped) for corpus in read),
    }
    if any(corpus.labels or corpus.answers for corpus in self.corpora):
      found['cut'] = sum(len(corpus.cut) for corpus in self.corpora)
      if left_out := sum(len(corpus.left_out) for corpus in self.corpora):
        found['left_out'] = left_out
    if self.config.mixture:
      for number, corpus in enumerate(self.corpora):
        found[f'documents_{number}'] = corpus.documents
    return found

  def report_shares(self) -> None:
    """Reports what rows fall short of, where a run ends before it is due."""
    self._shares.report()

  def batches(
    self,
    cursor: np.ndarray,
    rows: np.ndarray,
    everywhere: Callable[[bool], bool] = bool,
    taken: int = 0,
  ) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches after `cursor` (see start): name -> [len(rows), ...].

    `rows` are the positions in the global batch that this host needs, sorted;
    those from data.batch on are padding. `taken` is how many rows the run has
    read, which decides whose turn it is.
    With data.epochs, a stream that has ended gives padding until all streams
    have ended. Then SourceEnded is raised, after the same batch on all hosts:
    `everywhere` says whether what is true on this host is true on all.
    """
    cursor, shape = np.asarray(cursor), self.start().shape
    if cursor.shape != shape:
      raise ValueError(
        f'The cursor has shape {cursor.shape}, but'
        f' data.streams={self.config.streams} need {list(shape)}.'
      )
    size, repeat = self.config.block, self.config.repeats
    readers = [corpus.reader(size, repeat) for corpus in self.corpora]
    ends = []

    def padded(stream):
      return self._padded(readers, stream, cursor[stream], ends)

    batches = self._batches(rows, self.config.batch, padded, taken)
    if self.config.epochs:
      return self._until(batches, ends, everywhere)
    return batches

  def evaluation(
    self, rows: np.ndarray, batch: int
  ) -> Iterator[dict[str, np.ndarray]]:
    """The evaluation split once, as batches of `batch` rows, then padding.

    Order and corruption are fixed, and `rows` as in batches(). When all is
    read, batches of weight 0 follow without end.
    """
    # Small chunks spread a small split evenly; a pair needs other documents.
    least = 8 if self.config.objective == 'sentence_pairs' else 1
    size = max(least, self.config.block // self.config.streams)
    readers = [corpus.reader(size) for corpus in self.evaluated]
    return self._batches(rows, batch, lambda s: self._evaluated(readers, s))

  def _batches(self, rows, batch, stream_rows, taken=0):
    threads = 0 if self.config.source == 'synthetic' else self.config.workers
    turns = assembly.Turns(batch, self.config.streams, taken)
    return assembly.batches(stream_rows, rows, turns, self.shapes, threads)

  def _until(self, batches, ends, everywhere):
    """The batches before the first one that is padding on all hosts."""
    with contextlib.closing(batches):
      for batch in batches:
        if everywhere(not batch['segments'].any()):
          self.report_shares()
          raise ends[0]
        yield batch

  # Each of these yields arrays of rows [rows, W]; see features.

  def _padded(self, readers, stream, cursor, ends):
    """Rows of a stream after its cursor, then padding; adds its end to `ends`.

    Padding has the cursor of the last row.
    """
    found = False
    try:
      for rows in self.stream_rows(readers, stream, cursor):
        if len(rows):
          found = True
          cursor = features.split(rows, self.shapes)['cursor'][-1]
        yield rows
    except chunks.SourceEnded as end:
      if not found and np.array_equal(cursor, self.start()[stream]):
        self._shares.report_empty(stream)
      ends.append(end)
    while True:
      rows = features.padding(self.shapes, PADDING)
      features.split(rows, self.shapes)['cursor'][:] = cursor
      yield rows

  def stream_rows(
    self, readers: list[chunks.ChunkReader], stream: int, cursor: np.ndarray
  ) -> Iterator[np.ndarray]:
    """Rows of a stream after its cursor, up to SourceEnded.

    `readers` are of the corpora, one each.
    """
    places = cursors.places(cursor, len(self.kinds))
    parts = [
      self._source_rows(readers, n, stream, place)
      for n, place in enumerate(places)
    ]
    if not self.config.mixture:
      return parts[0]
    return mixture.merge(
      parts, self.seed, stream, self.rates, cursor, self.shapes
    )

  def _source_rows(self, readers, number, stream, cursor):
    """Rows of one source in a stream, after its place [3 + C] in the cursor."""
    place, taken = tuple(cursor[:3]), cursor[3:]
    own = (number,) if self.config.mixture else ()
    last = place[0]  # epoch in which there were rows
    for at, (file, chunk), records in chunks.walk(
      readers[number], stream, self.config.streams, self.seed, cursor,
      self.config.epochs,
    ):  # fmt: skip
      drawn = seeds.ROWS_TRAIN, stream, *at, *own
      if self.config.duplicates:
        again = at[0] % self.config.duplicates
        drawn = seeds.ROWS_DUPLICATES, file, chunk, again, *own
      before = taken[: self.kind] if at == place else ()
      rows = self._rows(
        self.corpora[number], file, records, drawn, at, before,
        (seeds.ROWS_REST, stream, *at, *own),
      )  # fmt: skip
      self._shares.add(len(records), features.split(rows, self.shapes))
      if len(rows):
        last = at[0]
      elif at[0] - last > chunks.EMPTY * self.config.streams:
        raise ValueError(
          f'{readers[number].name} gave stream {stream} of data.streams='
          f'{self.config.streams} no row in {at[0] - last} epochs: '
          f'{self.corpora[number].without_rows()}'
        )
      if at == place:
        rows = rows[taken[self.kind] + 1 :]
      yield rows

  def _evaluated(self, readers, stream):
    """Rows of a stream of the evaluation split, then padding without end."""
    for number, reader in enumerate(readers):
      own = (number,) if len(readers) > 1 else ()
      for at, (file, _), records in chunks.walk(
        reader, stream, self.config.streams, None, cursors.START
      ):
        drawn = seeds.ROWS_EVALUATION, stream, *at, *own
        yield self._rows(self.evaluated[number], file, records, drawn, at)
    while True:
      yield features.padding(self.shapes, PADDING)

  def _rows(self, corpus, file, records, drawn, at, before=(), rest=()):
    """The pure function of a chunk: its records -> rows with their cursors.

    `drawn` is what seeds.ROWS names, `at` the chunk's place [3]. `before` are
    the last rows that earlier kinds of rows took of the chunk, -1 for none, and
    `rest` is as `drawn`, for what they left.
    """
    with self._slots:
      words = seeds.generator(self.seed, seeds.WORDS, *drawn)
      documents = corpus.documents_of(file, records, self.tokenizer, words)
      rng = seeds.generator(self.seed, seeds.ROWS, *drawn)
      whole = None
      for kind, row in enumerate(before):
        if row >= 0:
          documents, whole = remainders.after(
            row + 1, documents, whole, self.tokenizer, self.kinds[kind], rng,
            self.family,
          )  # fmt: skip
          rng = seeds.generator(self.seed, seeds.ROWS, *rest, kind)
      config = corpus.config if corpus.labels else self.config
      rows = row_making.make_rows(
        documents, self.tokenizer, config, self.shapes, rng, self.family, whole
      )
    cursor = features.split(rows, self.shapes)['cursor']
    cursor[:, :3], cursor[:, 3:] = at, -1
    cursor[:, 3 : 3 + len(before)] = before
    cursor[:, 3 + self.kind] = np.arange(len(rows))
    return rows
