"""Seeds: the random domains of the pipeline, each with a number of its own.

Everything random is drawn by a generator seeded with [seed, domain, place ...].
The place says what is drawn: the rows of a chunk, the order of an epoch. So a
draw depends on nothing that was drawn before, and no two domains draw alike.
The places of a domain have one length: NumPy ignores zeros at the end.
A number here is part of the data's format: changing it changes every row.
"""

import numpy as np

# Domain: its place, and what is drawn.
SYNTHETIC_CYCLE = 0  # (): the cycle of tokens that synthetic documents follow
SYNTHETIC_DOCUMENT = 1  # (file, document): a walk round that cycle
SHARD_ORDER = 2  # (epoch): the order of the files and of their parts
ROWS = 3  # (ROWS_..., place): the order and corruption of a chunk's documents
MIXTURE = 4  # (stream, draw): the sources of the next rows
WORDS = 5  # (ROWS_..., place): how the tasks of a chunk are put into words

# Domains within ROWS. In a mixture the source's number ends the place.
ROWS_TRAIN = 0  # (stream, epoch, shard, chunk)
ROWS_EVALUATION = 1  # (stream, epoch, shard, chunk)
# With data.duplicates, alike in any stream and order of the shards.
ROWS_DUPLICATES = 2  # (file, chunk of the file, epoch % data.duplicates)
# What the rows of an earlier phase left of a chunk; then the number of their
# kind, see configs.phases.kinds_of.
ROWS_REST = 3  # (stream, epoch, shard, chunk)


def generator(seed: int, domain: int, *place: int) -> np.random.Generator:
  """The generator of a place in a domain.

  >>> generator(0, SHARD_ORDER, 7).permutation(4).tolist()
  [2, 3, 0, 1]
  """
  return np.random.default_rng([seed, domain, *place])
