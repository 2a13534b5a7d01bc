"""Shares: how full rows are, and how many of their tokens are predicted.

Both are counted while blocks are made. What falls short of what the config asks
for is reported once, with its cause: a run goes on with it.
"""

import threading

import numpy as np

BLOCKS = 8  # that are counted before anything is reported
FULL = 0.95  # share of the places of rows that should be filled
ROWS = 20  # of a block, beyond which its last row matters little
MISSED = 0.1  # of the share that is to be predicted


class Shares:
  """Counts of the blocks made of one DataConfig. Safe to call from threads."""

  def __init__(self, config):
    self.config = config
    self.blocks = self.documents = self.rows = 0
    self.filled = self.places = 0  # of inputs and targets, or of one row
    self.predicted = 0
    self.empty = False
    self._lock = threading.Lock()

  def add(self, documents, batch):
    """Counts a block of so many documents; batch is name -> [rows, ...]."""
    if not len(batch['segments']):
      return
    sides = [
      batch[s] > 0 for s in ('encoder_segments', 'segments') if s in batch
    ]
    with self._lock:
      if self.blocks == BLOCKS:
        return
      self.blocks += 1
      self.documents += documents
      self.rows += len(batch['segments'])
      self.filled += np.array([side.sum() for side in sides])
      self.places += np.array([side.size for side in sides])
      self.predicted += int(batch['weights'].sum())
      if self.blocks == BLOCKS:
        for line in filter(None, (self.padding(), self.masked())):
          print(line, flush=True)

  def report_empty(self, stream):
    """Reports, once, that a stream ended without any row."""
    with self._lock:
      if self.empty:
        return
      self.empty = True
    print(
      f'Stream {stream} of data.streams={self.config.streams} has no document'
      f' in data.epochs={self.config.epochs}, and its rows are padding: blocks'
      f' of data.block={self.config.block} documents are fewer than streams.'
      ' Lower data.block or data.streams.',
      flush=True,
    )

  def padding(self):
    """The report of rows part-filled by small blocks; '' if none is."""
    config = self.config
    joined = config.concatenate and not config.sentences
    full = (self.filled / self.places).max()
    rows = self.rows / self.blocks
    if full >= FULL or rows >= ROWS or not (config.pack or joined):
      return ''
    documents = self.documents / self.blocks
    wanted = int(ROWS * documents / (full * rows)) + 1
    found = (
      f'Rows are {full:.1%} full: a block fills {full * rows:.1f} rows of'
      f' data.length={config.length} tokens, the last one in part.'
    )
    if documents < 0.9 * config.block:
      return (
        f'{found} Blocks have {documents:.0f} documents, fewer than data.block='
        f'{config.block}, as none crosses a file: put more documents into a'
        f' file, about {wanted:,}, or lower data.length.'
      )
    return (
      f'{found} Raise data.block={config.block} to about {wanted:,}, which'
      ' takes more memory, or lower data.length.'
    )

  def masked(self):
    """The report of a share of masked tokens that is missed; '' if it holds."""
    config = self.config
    if not config.masks:
      return ''
    rate, found = config.noise_density, self.predicted / self.filled[-1]
    if abs(found - rate) <= MISSED * rate:
      return ''
    line = f'{found:.1%} of the tokens are predicted, not data.noise_density='
    line += f'{rate:.1%}: '
    if found > rate:
      return line + 'rows are so short that one token is more than this.'
    if config.predictions < (1 - MISSED) * rate * config.length:
      return line + (
        f'data.predictions={config.predictions} allows no more. Raise it.'
      )
    if config.whole_words:
      return line + (
        'words have more tokens than a row may predict. Set data.whole_words='
        'False, or take another tokenizer.'
      )
    return line + 'rows have too few tokens that are neither [CLS] nor [SEP].'
