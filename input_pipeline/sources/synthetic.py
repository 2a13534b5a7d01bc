"""Synthetic data: documents that are ids already, drawn from a seed."""

from collections.abc import Iterator

import numpy as np

from input_pipeline.sources.files import Source
from input_pipeline.sources.hashes import hash_bytes
from input_pipeline.streams import seeds


class Synthetic(Source):
  """Random walks round a fixed cycle of tokens: no files, no TensorFlow.

  A walk steps from a token to the next one of the cycle, and now and then jumps
  anywhere, so that a model can learn to fill in what is missing.
  """

  tokenized = True
  documents, tokens, jump, alphabet = 1024, 512, 0.05, 256

  def __init__(self, seed: int, vocab_size: int, sentinels: int):
    self.files = [f'synthetic-{n:02d}' for n in range(64)]
    self.seed = seed
    rng = seeds.generator(seed, seeds.SYNTHETIC_CYCLE)
    ordinary = np.arange(3, vocab_size - sentinels, dtype=np.int32)
    self.cycle = rng.permutation(ordinary)[: self.alphabet]
    self.fingerprint = {'tokens': hash_bytes(self.cycle.tobytes())}

  def records(
    self, file: int, start: int
  ) -> Iterator[tuple[int, tuple[int, int]]]:
    return ((n + 1, (file, n)) for n in range(start, self.documents))

  def text(self, record: tuple[int, int]) -> np.ndarray:
    rng = seeds.generator(self.seed, seeds.SYNTHETIC_DOCUMENT, *record)
    count = rng.integers(self.tokens // 2, 2 * self.tokens)
    steps = np.arange(count)
    jumps = np.flatnonzero(rng.random(count) < self.jump)
    jumps = np.concatenate([[0], jumps])
    last = np.searchsorted(jumps, steps, side='right') - 1
    start = rng.integers(len(self.cycle), size=len(jumps)) - jumps
    return self.cycle[(start[last] + steps) % len(self.cycle)]
