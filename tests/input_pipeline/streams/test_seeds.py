"""Seeds: the numbers of the random domains are part of the data's format."""

import itertools

import numpy as np

from input_pipeline.streams import seeds

DOMAINS = {
  'SYNTHETIC_CYCLE': 0,
  'SYNTHETIC_DOCUMENT': 1,
  'SHARD_ORDER': 2,
  'ROWS': 3,
  'MIXTURE': 4,
  'WORDS': 5,
  'ROWS_TRAIN': 0,
  'ROWS_EVALUATION': 1,
  'ROWS_DUPLICATES': 2,
  'ROWS_REST': 3,
}


def test_domains_keep_their_numbers():
  found = {n: v for n, v in vars(seeds).items() if n.isupper()}
  assert found == DOMAINS


def test_no_two_places_draw_alike():
  """Two seeds, and two domains, draw differently too."""
  every = list(itertools.product((0, 1), range(5), (0, 1), (0, 1)))
  drawn = [seeds.generator(*place).integers(1 << 60) for place in every]
  assert len(np.unique(drawn)) == len(every)
