"""Reports: how full rows are, and what share of their tokens is predicted.

If one falls short of what the config asks for, a report says so once, with its
cause, after CHUNKS chunks or at the end of the run. The run continues.
"""

import threading

import numpy as np

from input_pipeline.choices import MASKED
from input_pipeline.config import DataConfig

CHUNKS = 8  # counted before anything is reported
FULL = 0.95  # share of the places in rows that should be filled
ROWS = 20  # of a chunk; with more, its part-filled last row matters little
MISSED = 0.1  # how much of the share to predict may be missing


class Shares:
  """Counts over the chunks of one DataConfig; safe to call from threads."""

  def __init__(self, config: DataConfig):
    self.config = config
    self.chunks = self.documents = self.rows = 0
    self.filled = self.places = 0  # of inputs and targets, or of one row
    self.predicted = 0
    self.reported = self.empty = False
    self._lock = threading.RLock()

  def add(self, documents: int, batch: dict[str, np.ndarray]) -> None:
    """Counts the rows of a chunk of so many documents; name -> [rows, ...]."""
    if not len(batch['segments']):
      return
    sides = [
      batch[s] > 0 for s in ('encoder_segments', 'segments') if s in batch
    ]
    with self._lock:
      if self.reported:
        return
      self.chunks += 1
      self.documents += documents
      self.rows += len(batch['segments'])
      self.filled += np.array([side.sum() for side in sides])
      self.places += np.array([side.size for side in sides])
      self.predicted += int(batch['weights'].sum())
      if self.chunks == CHUNKS:
        self.report()

  def report(self) -> None:
    """Reports what the chunks so far fall short of, if not yet reported."""
    with self._lock:
      if self.chunks and not self.reported:
        self.reported = True
        for line in filter(None, (self.padding(), self.masked())):
          print(f'{line}\n', end='', flush=True)  # A thread's line stays whole.

  def report_empty(self, stream: int) -> None:
    """Reports once that a stream ended without any row."""
    with self._lock:
      if self.empty:
        return
      self.empty = True
    print(
      f'Stream {stream} of data.streams={self.config.streams} has no document'
      f' in data.epochs={self.config.epochs}, and its rows are padding: there'
      f' are fewer chunks of data.block={self.config.block} documents than'
      ' streams. Lower data.block or data.streams.\n',
      end='',
      flush=True,
    )

  def padding(self) -> str:
    """The report that small chunks leave rows part-filled, or ''."""
    config = self.config
    joined = config.concatenate and not config.sentences
    full = (self.filled / self.places).max()
    rows = self.rows / self.chunks
    if full >= FULL or rows >= ROWS or not (config.pack or joined):
      return ''
    documents = self.documents / self.chunks
    wanted = int(ROWS * documents / (full * rows)) + 1
    found = (
      f'Rows are {full:.1%} full: a chunk of documents fills {full * rows:.1f}'
      f' rows of data.length={config.length} tokens, the last one in part.'
    )
    if documents < 0.9 * config.block:
      return (
        f'{found} Chunks have {documents:.0f} documents, fewer than data.block='
        f'{config.block}, because a chunk never crosses a file: put more'
        f' documents into a file, about {wanted:,}, or lower data.length.'
      )
    return (
      f'{found} Raise data.block={config.block} to about {wanted:,}, which'
      ' takes more memory, or lower data.length.'
    )

  def masked(self) -> str:
    """The report that too few or too many tokens are predicted, or ''."""
    config = self.config
    if config.objective not in MASKED:
      return ''
    rate, found = config.noise_density, self.predicted / self.filled[-1]
    if abs(found - rate) <= MISSED * rate:
      return ''
    if found > rate:
      why = 'rows are so short that one token is a larger share.'
    elif config.predictions < (1 - MISSED) * rate * config.length:
      why = f'data.predictions={config.predictions} allows no more. Raise it.'
    elif config.whole_words:
      why = 'words have more tokens than a row may predict. Set'
      why += ' data.whole_words=False, or take another tokenizer.'
    else:
      why = 'rows have too few tokens that are neither [CLS] nor [SEP].'
    found = f'{found:.1%} of the tokens are predicted'
    return f'{found}, not data.noise_density={rate:.1%}: {why}'
