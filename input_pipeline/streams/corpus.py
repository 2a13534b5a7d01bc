"""A corpus: the documents of a source that are trained on, or evaluated on."""

import itertools
import threading

from input_pipeline.objectives.rows import encode
from input_pipeline.streams import chunks

WARNINGS = 5  # unreadable documents shown
NO_TOKEN = 'its text has no token'


class Corpus:
  """One split of a source, read block by block and counted.

  `key` is the config's that names the source, `name` the source. Every
  holdout-th document of a file is left to evaluation (0: none), or is all that
  is read, when `held_out`. Of the others only the first `limit` are read (0:
  all), in the order of the files. Raises ValueError when there are fewer.
  """

  def __init__(
    self, key, name, source, config, holdout=0, held_out=False, limit=0
  ):
    self.key, self.name = key, name
    self.source, self.config = source, config
    self.holdout, self.held_out = holdout, held_out
    self.limits = self._limits(limit) if limit else None
    self.documents, self.skipped = 0, set()
    self.alone = set()  # files with a block of one document
    self._lock = threading.Lock()

  def reader(self, block, repeat=False):
    """A reader (see streams) of blocks of so many documents."""
    count = self.config.streams
    files = len(self.source.files if self.limits is None else self.limits)
    return chunks.BlockReader(
      self.source, block, chunks.split_files(files, count), self.holdout,
      self.held_out, files=2 * count, limits=self.limits,
      name=f'{self.key}={self.name!r}', repeat=repeat,
    )  # fmt: skip

  def documents_of(self, file, records, tokenizer):
    """The documents of a file's records (line, record), as ids.

    Bad ones are left out, counted and told. Raises ValueError when they are
    more than data.max_bad_share of all.
    """
    documents, lines, failures = [], [], {}
    for line, record in records:
      try:
        documents.append(self.source.text(record))
        lines.append(line)
      except ValueError as error:
        failures[self.source.place(file, line)] = error
    if not self.source.tokenized:
      documents = encode(documents, tokenizer, self.config)
    for line, document in zip(lines, documents, strict=True):
      if not len(document):
        failures[self.source.place(file, line)] = NO_TOKEN
    with self._lock:
      self.documents += len(records)
      if self.config.objective == 'sentence_pairs' and len(records) == 1:
        self._tell_alone(file)
      for place in failures.keys() - self.skipped:
        self.skipped.add(place)  # once, though it is read every epoch
        if len(self.skipped) <= WARNINGS:
          print(describe(place, failures[place]), flush=True)
        elif len(self.skipped) == WARNINGS + 1:
          print(
            'More documents are skipped; how many, data/skipped tells in'
            ' metrics.jsonl.',
            flush=True,
          )
      if failures:
        worst = describe(*failures.popitem())
        check_share(len(self.skipped), self.documents, self.config, worst)
    return documents

  def _tell_alone(self, file):
    """Says of the first few files that a pair has no other document there."""
    if file in self.alone or len(self.alone) == WARNINGS:
      return
    self.alone.add(file)
    print(
      f'{self.source.files[file]} has a block of one document: none of its'
      ' pairs has a random second part, which is drawn of the other documents'
      ' of a block. Put several documents into a file.',
      flush=True,
    )

  def _limits(self, limit):
    """How many of each file's documents make up the first `limit`."""
    split, limits = (self.holdout, self.held_out), []
    for file in range(len(self.source.files)):
      left = limit - sum(limits)
      if hasattr(self.source, 'lengths'):
        there = chunks.kept_count(self.source.lengths[file], *split)
      else:
        records = enumerate(self.source.records(file, 0))
        found = (1 for i, _ in records if chunks.kept(i, *split))
        there = sum(itertools.islice(found, left))
      limits.append(min(there, left))
      if sum(limits) == limit:
        return limits
    raise ValueError(
      f'data.documents={limit}, but {self.key}={self.name!r} has'
      f' {sum(limits)} documents to train on. Lower it, or set it to 0: all.'
    )


def check_share(skipped, documents, config, worst):
  """Raises ValueError when too many documents are unreadable."""
  share = config.max_bad_share
  if skipped > share * max(documents, 1000):
    raise ValueError(
      f'{skipped} of {documents} documents are unreadable, more than'
      f' data.max_bad_share={share} of them (of 1000 at least). {worst}'
    )


def describe(place, error):
  """The report of a document that is left out; see Source.place."""
  return f'Skipped a document: {place}: {error}.'
