"""A small corpus of made-up text in files, its config, and its batches."""

import functools
import gzip
import itertools
import json

import numpy as np
import pytest

from input_pipeline import config, pipeline, tokenizing

BATCH = 16
VOCABULARY = 300

open_data = functools.partial(pipeline.open_data, family='encoder_decoder')


def data_config(**changes):
  values = {
    'source': 'synthetic',
    'tokenizer': '',
    'sentinels': 40,
    'objective': 'span_corruption',
    'noise_density': 0.15,
    'mean_span_length': 3.0,
    'batch': BATCH,
    'length': 64,
    'concatenate': True,
    'pack': True,
    'block': 8,
    'document_tokens': 65536,
    'streams': 4,
    'holdout': 10,
    'max_bad_share': 0.001,
    'threads': 2,
  }
  return config.DataConfig(**(values | changes))


@functools.cache
def texts(count, seed=0):
  """Documents of 1 to 60 made-up words."""
  rng = np.random.default_rng(seed)
  syllables = [a + b for a in 'bdfgklmnprst' for b in 'aeiou']
  return tuple(
    ' '.join(
      ''.join(rng.choice(syllables, size=rng.integers(1, 4)))
      for _ in range(rng.integers(1, 60))
    )
    for _ in range(count)
  )


def write(path, documents):
  lines = [json.dumps({'text': text}) for text in documents]
  path.write_bytes(gzip.compress('\n'.join(lines).encode(), 1))


def json_config(corpus, files='*.json.gz', **changes):
  return data_config(source=f'json:{corpus}/{files}', **changes)


def make(folder):
  """Writes three files of different sizes; skips without TensorFlow."""
  pytest.importorskip('tensorflow')
  for n, count in enumerate((150, 230, 97)):
    write(folder / f'{n}.json.gz', texts(count, n))
  return folder


def make_workdir(corpus, folder):
  """A workdir with a tokenizer trained on the corpus."""
  tokenizing.prepare(json_config(corpus), 0, VOCABULARY, str(folder))
  return str(folder)


def take(data, count, cursor=None, rows=None):
  cursor = data.start() if cursor is None else cursor
  rows = np.arange(BATCH) if rows is None else rows
  return list(itertools.islice(data.batches(cursor, rows), count))


def assert_same(first, second):
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def last_cursor(batch, count=4):
  return batch['cursor'].reshape(count, -1, 4)[:, -1]
