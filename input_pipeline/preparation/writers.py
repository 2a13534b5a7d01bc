"""What prepare writes: one file of documents from one file of a source.

A job goes to every process. open() opens what the job reads. write(number,
path, count) makes the number-th file at `path`, reports (documents, tokens, bad
ones) to `count` as it goes on, and returns the facts for the manifest.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from input_pipeline import tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import encode
from input_pipeline.sources import cache, opening, paths
from input_pipeline.streams import corpus

Count = Callable[..., None]
AT_ONCE = 256  # documents encoded at a time


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

  def open(self) -> None:
    arguments = self.seed, self.vocab_size
    self.source = opening.open_source(
      self.name, *arguments, self.config.sentinels, self.key,
      self.config.text_field,
    )  # fmt: skip
    self.tokenizer = tokenizing.prepare(
      self.config, *arguments, self.tokenizer_folder
    )
    self.dtype = cache.id_type(self.tokenizer.size)

  def write(self, number: int, path: str, count: Count) -> dict[str, int]:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(path, cache.WRITER)
    documents, tokens, bad, worst = 0, 0, 0, ''
    groups = _groups(self.source.records(number, 0))
    with _closing(writer):
      for records, more, failures in _in_order(
        lambda group: self._encode(number, group), groups, self.threads
      ):
        for record in records:
          writer.write(record)
        documents, tokens = documents + len(records), tokens + more
        bad, worst = bad + len(failures), worst or ''.join(failures[:1])
        count(len(records), more, len(failures))
      if bad:
        corpus.check_share(bad, documents, self.config, worst)
    return {'documents': documents, 'tokens': tokens, 'bad': bad}

  def _encode(self, file, group):
    """Records of documents, their tokens, and the reports of bad ones."""
    records, texts, failures = [None] * len(group), [], []
    for place, (line, record) in enumerate(group):
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
          at = self.source.place(file, group[place][0])
          failures.append(corpus.describe(at, corpus.NO_TOKEN))
    return records, tokens, failures


@dataclasses.dataclass
class Examples:
  """Files of a dataset for TFDS: tf.Example records of C4's fields."""

  config: DataConfig
  names: list[tuple[str, str]]  # (key, name) of the source of each split
  suffix: str  # array_record or tfrecord
  threads: int = 1

  def open(self) -> None:
    opened = [
      opening.open_source(name, 0, 0, 0, key, self.config.text_field)
      for key, name in self.names
    ]
    self.files = [
      (source, n) for source in opened for n in range(len(source.files))
    ]

  def write(self, number: int, path: str, count: Count) -> dict[str, int]:
    from input_pipeline.preparation import tfds_writer

    source, file = self.files[number]
    documents, bad, size, worst = 0, 0, 0, ''
    writer = tfds_writer.open_writer(path, self.suffix)
    with _closing(writer, self.suffix):
      for group in _groups(source.records(file, 0)):
        before = documents, bad
        for line, record in group:
          try:
            example = tfds_writer.example(source, record)
          except ValueError as error:
            bad += 1
            at = source.place(file, line)
            worst = worst or corpus.describe(at, error)
            continue
          writer.write(example)
          documents, size = documents + 1, size + len(example)
        count(documents - before[0], 0, bad - before[1])
      if bad:
        corpus.check_share(bad, documents + bad, self.config, worst)
    return {'documents': documents, 'bad': bad, 'size': size}


@contextlib.contextmanager
def _closing(writer: Any, suffix: str = 'array_record'):
  """Closes a writer of files; errors of writing become OSErrors."""
  errors = contextlib.nullcontext()
  if suffix == 'tfrecord':
    errors = paths.tensorflow_errors('')
  try:
    with errors, contextlib.closing(writer):
      yield
  except RuntimeError as error:  # ArrayRecord's: 'write() failed: WHY; ...'
    why = str(error).partition('failed: ')[2].partition(';')[0]
    if not why:
      raise
    raise OSError(why) from error


def _groups(records):
  """Lists of AT_ONCE records."""
  return iter(lambda: list(itertools.islice(records, AT_ONCE)), [])


def _in_order(function, items, threads):
  """function(item) of each item, in order, made ahead by several threads."""
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
