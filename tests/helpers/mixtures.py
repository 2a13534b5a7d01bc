"""Three sources of several files each, and what is read of their mixtures."""

import itertools

import numpy as np

VOCABULARY = 300
COUNTS = {'a': (120, 80), 'b': (150,), 'c': (40, 30, 20)}
RATES = {'a': 0.5, 'b': 0.375, 'c': 0.125}
ROWS = np.arange(16)


def mixed(sources, rates=RATES):
  return tuple((f'json:{sources}/{n}*.gz', rate) for n, rate in rates.items())


def take(data, count, cursor=None, rows=ROWS):
  cursor = data.start() if cursor is None else cursor
  return list(itertools.islice(data.batches(cursor, rows), count))


def last_cursor(batch):
  return batch['cursor'].reshape(4, 4, -1)[:, -1]


def counted(batches):
  counts = np.zeros(VOCABULARY, int)
  for batch in batches:
    np.add.at(counts, batch['targets'][batch['segments'] > 0], 1)
  return counts


def whole_evaluation(data):
  return list(
    itertools.takewhile(
      lambda batch: batch['weights'].any(), data.evaluation(ROWS, 16)
    )
  )
