"""The tokenizer of synthetic data, whose documents are ids already."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from input_pipeline.tokenizers.interface import Tokenizer


class Numbers(Tokenizer):
  """Ids that are shown as numbers.

  Pad 0, EOS 1, unknown 2; sentinels come last. With `specials`, [CLS], [SEP]
  and [MASK] are just below the sentinels.
  """

  SPECIALS = 3
  pad, eos, unk = 0, 1, 2

  def __init__(self, size: int, sentinels: int, specials: bool = False):
    if size < sentinels + 16:
      raise ValueError(
        f'model.vocab_size={size} leaves no tokens beside'
        f' data.sentinels={sentinels} for synthetic data.'
      )
    self.size = size
    self.sentinels = np.arange(size - 1, size - 1 - sentinels, -1, np.int32)
    if specials:
      last = size - sentinels
      self.cls, self.sep, self.mask = last - 3, last - 2, last - 1
    self.fingerprint = f'numbers below {size}'

  def encode_batch(
    self, texts: Sequence[bytes | np.ndarray], threads: int = 1
  ) -> list[np.ndarray]:
    """Returns ids unchanged; in text (a denoiser's mode) a byte is an id."""
    del threads
    text = self.size - len(self.specials)
    return [
      np.frombuffer(t, np.uint8).astype(np.int32) % text + 3
      if isinstance(t, bytes)
      else t
      for t in texts
    ]

  def decode(self, ids: Iterable[int]) -> str:
    names = (self.shown.get(i, str(i)) for i in map(int, ids))
    return ' '.join(filter(None, names))

  def piece(self, i: int) -> str:
    special = {0: '<pad>', 1: '</s>', 2: '<unk>'}
    masks = self.cls, self.sep, self.mask
    special |= dict(zip(masks, self.masking, strict=True))
    for n, sentinel in enumerate(self.sentinels.tolist()):
      special[sentinel] = f'<extra_id_{n}>'
    return special.get(int(i), str(i))

  def byte_lengths(self) -> np.ndarray:
    """The digits of each number, and the space that decode() writes."""
    lengths = np.char.str_len(np.arange(self.size).astype(str)) + 1
    lengths[list(self.specials)] = 0
    return lengths.astype(np.int32)

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    """Every third id continues a word."""
    starts = np.arange(self.size) % 3 > 0
    starts[list(self.specials)] = True
    return starts
