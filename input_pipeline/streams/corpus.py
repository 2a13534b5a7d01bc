"""A corpus: the documents of a source that are trained on, or evaluated on."""

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives.labelled import Format
from input_pipeline.objectives.preferences import Answers
from input_pipeline.objectives.rows import encode
from input_pipeline.sources.files import Source
from input_pipeline.streams import chunks
from input_pipeline.tokenizers.interface import Tokenizer

WARNINGS = 5  # documents and files that are reported one by one
NO_TOKEN = 'its text has no token'
HELD_OUT = 'held_out'  # the split that data.holdout makes of a task's examples


class Corpus:
  """One split of a source, read chunk by chunk and counted.

  `key` is the config's that names the source, `name` the source. Of each file
  every holdout-th document is left out for evaluation (0: none), or with
  `held_out` only those are read. Of the documents that remain the first `limit`
  are read, in the order of the files (0: all). Raises ValueError when there are
  fewer than `limit`.

  `documents` and `skipped` are what was read so far and which of it is bad.
  Of a task, `labels` says how its examples are read, and of preferences
  `answers`. `cut` are those that lost tokens, each once: pairs (file, line).
  `left_out` are those of which nothing can be learnt, each with why: a chat's
  prompt may fill the row.
  """

  def __init__(
    self,
    key: str,
    name: str,
    source: Source,
    config: DataConfig,
    holdout: int = 0,
    held_out: bool = False,
    limit: int = 0,
    labels: Format | None = None,
    answers: Answers | None = None,
  ):
    self.key, self.name = key, name
    self.source, self.config = source, config
    self.holdout, self.held_out = holdout, held_out
    self.limits = self._limits(limit) if limit else None
    self.labels, self.answers = labels, answers
    self.documents, self.skipped = 0, set()
    self.cut, self.left_out = set(), {}
    self.alone = set()  # files with a chunk of one document
    self._lock = threading.Lock()

  @property
  def examples(self) -> Sequence[Any]:
    """Of a task: the examples of this corpus, in the order of the file."""
    every, split = self.source.examples, (self.holdout, self.held_out)
    if not self.holdout:
      return every
    return [x for n, x in enumerate(every) if chunks.kept(n, *split)]

  @property
  def split(self) -> str:
    """Of a task: our name of the split, or HELD_OUT."""
    return HELD_OUT if self.held_out else self.source.split

  def reader(self, size: int, repeat: bool = False) -> chunks.ChunkReader:
    """A reader of chunks of `size` documents; see ChunkReader for `repeat`."""
    streams = self.config.streams
    files = len(self.source.files if self.limits is None else self.limits)
    return chunks.ChunkReader(
      self.source, size, chunks.split_files(files, streams), self.holdout,
      self.held_out, 2 * streams, self.limits, f'{self.key}={self.name!r}',
      repeat,
    )  # fmt: skip

  def documents_of(
    self,
    file: int,
    records: list[tuple[int, Any]],
    tokenizer: Tokenizer,
    rng: np.random.Generator | None = None,
  ) -> list[np.ndarray] | list[list[np.ndarray]]:
    """A file's records (line, record) as documents: ids, or ids by sentence.

    `rng` puts a task's examples into words. Bad documents are left out, counted
    and reported. Raises ValueError when their share is more than
    data.max_bad_share.
    """
    documents, lines, failures = [], [], {}
    for line, record in records:
      try:
        documents.append(self._read(record))
        lines.append(line)
      except ValueError as error:
        failures[self.source.place(file, line)] = error
    cut, without = (), {}
    if self.labels:
      documents, lost, without = self.labels.encode(documents, tokenizer, rng)
      cut = [(file, line) for line, x in zip(lines, lost, strict=True) if x]
    elif self.answers:
      documents, lost, bad = self.answers.encode(documents, tokenizer)
      cut = [(file, line) for line, x in zip(lines, lost, strict=True) if x]
      for n, reason in bad.items():
        failures[self.source.place(file, lines[n])] = reason
    elif not self.source.tokenized:
      documents = encode(documents, tokenizer, self.config)
    for line, document in zip(lines, documents, strict=True):
      if not len(document) and not (self.labels or self.answers):
        failures[self.source.place(file, line)] = NO_TOKEN
    with self._lock:
      self.documents += len(records)
      self.cut.update(cut)
      for n, why in without.items():
        self._leave_out(file, lines[n], why)
      if self.config.objective == 'sentence_pairs' and len(records) == 1:
        self._report_alone(file)
      for place in failures.keys() - self.skipped:
        self.skipped.add(place)  # counted once, though read every epoch
        if len(self.skipped) <= WARNINGS:
          print(describe(place, failures[place]), flush=True)
        elif len(self.skipped) == WARNINGS + 1:
          counted = 'data/skipped in metrics.jsonl counts them.'
          print(f'More documents are skipped: {counted}', flush=True)
      if failures:
        worst = describe(*failures.popitem())
        # All pairs are known beforehand, and may be few.
        least = sum(self.source.lengths) if self.answers else 1000
        check_share(
          len(self.skipped), self.documents, self.config, worst, least
        )
    return documents

  def without_rows(self) -> str:
    """Why none of the documents makes a row, and what to do."""
    if not self.left_out:
      return (
        'its documents are empty, unreadable, too short or, where pairs are '
        'made, alone in their file. Give others.'
      )
    why = next(iter(self.left_out.values()))
    return (
      f'{len(self.left_out):,} examples are left out, the first because {why}. '
      'Where the row is too short raise data.length; else give others.'
    )

  def _leave_out(self, file, line, why):
    """Counts an example without a row once, and reports the first."""
    if (file, line) in self.left_out:
      return
    self.left_out[file, line] = why
    if len(self.left_out) == 1:
      counted = 'data/left_out in metrics.jsonl counts such examples.'
      print(
        f'Left out of {self.name}, example {line}: {why}. {counted}',
        flush=True,
      )

  def _read(self, record):
    """What the corpus encodes of a record; ValueError if it is a bad one."""
    if self.answers:
      return self.source.example(record)
    return record if self.labels else self.source.text(record)

  def _report_alone(self, file):
    """Reports, for the first few files, that a document is alone in a chunk."""
    if file in self.alone or len(self.alone) == WARNINGS:
      return
    self.alone.add(file)
    print(
      f'{self.source.files[file]} has a chunk of one document. The random'
      ' second part of a pair comes from another document of the chunk, so'
      ' these pairs have none. Put several documents into a file.',
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


def check_share(
  skipped: int,
  documents: int,
  config: DataConfig,
  worst: str,
  least: int = 1000,
) -> None:
  """Raises ValueError when too many documents are unreadable.

  `worst` is the report of one of them; see describe. The share is that of at
  least so many documents, and of no more than 1000 of those to come.
  """
  share, least = config.max_bad_share, min(least, 1000)
  if skipped > share * max(documents, least):
    raise ValueError(
      f'{skipped} of {documents} documents are unreadable, more than'
      f' data.max_bad_share={share} of them (of {least} at least). {worst}'
    )


def describe(place: str, error: object) -> str:
  """The report of a document that is left out; see Source.place."""
  return f'Skipped a document: {place}: {error}.'
