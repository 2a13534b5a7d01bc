"""What prepare writes: a file of documents, from a file of a source.

A job is given to every process. open() opens what it reads; write(number, path,
count) makes the number-th file at `path`, counts (documents, tokens, bad ones)
as it goes, and returns what the manifest says of the file.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools

from input_pipeline import tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import encode
from input_pipeline.sources import cache, opening, paths
from input_pipeline.streams import corpus

CHUNK = 256  # documents encoded at a time


@dataclasses.dataclass
class Tokens:
  """Files of a token cache."""

  key: str
  name: str
  config: DataConfig
  seed: int
  vocab_size: int
  tokenizer_folder: str
  threads: int = 1

  def open(self):
    arguments = self.seed, self.vocab_size
    self.source = opening.open_source(
      self.name, *arguments, self.config.sentinels, self.key,
      self.config.text_field,
    )  # fmt: skip
    self.tokenizer = tokenizing.prepare(
      self.config, *arguments, self.tokenizer_folder
    )
    self.dtype = cache.id_type(self.tokenizer.size)

  def write(self, number, path, count):
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(path, cache.WRITER)
    documents, tokens, bad, worst = 0, 0, 0, ''
    chunks = _chunks(self.source.records(number, 0))
    with _closing(writer):
      for records, more, failures in _in_order(
        lambda chunk: self._encode(number, chunk), chunks, self.threads
      ):
        for record in records:
          writer.write(record)
        documents, tokens = documents + len(records), tokens + more
        bad, worst = bad + len(failures), worst or ''.join(failures[:1])
        count(len(records), more, len(failures))
      if bad:
        corpus.check_share(bad, documents, self.config, worst)
    return {'documents': documents, 'tokens': tokens, 'bad': bad}

  def _encode(self, file, chunk):
    """Records of documents, their tokens, and what is wrong with bad ones."""
    records, texts, failures = [None] * len(chunk), [], []
    for place, (line, record) in enumerate(chunk):
      try:
        texts.append(self.source.text(record))
      except ValueError as error:
        at = self.source.place(file, line)
        records[place] = cache.pack_bad(f'{error} ({at})')
        failures.append(corpus.describe(at, error))
    sentences, tokens = self.config.sentences, 0
    documents = iter(encode(texts, self.tokenizer, self.config))
    for place, record in enumerate(records):
      if record is None:
        document = next(documents)
        tokens += sum(map(len, document)) if sentences else len(document)
        records[place] = cache.pack(document, self.dtype, sentences)
        if not len(document):
          at = self.source.place(file, chunk[place][0])
          failures.append(corpus.describe(at, corpus.NO_TOKEN))
    return records, tokens, failures


@dataclasses.dataclass
class Examples:
  """Files of a dataset for TFDS: tf.Example records of C4's fields."""

  config: DataConfig
  names: list  # (key, name) of the source of each split
  suffix: str  # array_record or tfrecord
  threads: int = 1

  def open(self):
    opened = [
      opening.open_source(name, 0, 0, 0, key, self.config.text_field)
      for key, name in self.names
    ]
    self.files = [
      (source, n) for source in opened for n in range(len(source.files))
    ]

  def write(self, number, path, count):
    from input_pipeline.preparation import tfds_writer

    source, file = self.files[number]
    documents = bad = size = 0
    worst = ''
    writer, write = tfds_writer.open_writer(path, self.suffix)
    with _closing(writer, self.suffix):
      for chunk in _chunks(source.records(file, 0)):
        before = documents, bad
        for line, record in chunk:
          try:
            example = tfds_writer.example(source, record)
          except ValueError as error:
            bad += 1
            at = source.place(file, line)
            worst = worst or corpus.describe(at, error)
            continue
          write(example)
          documents, size = documents + 1, size + len(example)
        count(documents - before[0], 0, bad - before[1])
      if bad:
        corpus.check_share(bad, documents + bad, self.config, worst)
    return {'documents': documents, 'bad': bad, 'size': size}


@contextlib.contextmanager
def _closing(writer, suffix='array_record'):
  """Closes a writer of files; its errors become OSErrors, here or before."""
  named = paths.told('') if suffix == 'tfrecord' else contextlib.nullcontext()
  try:
    with named, contextlib.closing(writer):
      yield
  except RuntimeError as error:  # ArrayRecord's: 'write() failed: WHY; ...'
    why = str(error).partition('failed: ')[2].partition(';')[0]
    if not why:
      raise
    raise OSError(why) from error


def _chunks(records):
  return iter(lambda: list(itertools.islice(records, CHUNK)), [])


def _in_order(function, items, threads):
  """function(item) of each, in order, by several threads; few wait."""
  if threads == 1:
    yield from map(function, items)
    return
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    waiting = collections.deque()
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) > 2 * threads:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
