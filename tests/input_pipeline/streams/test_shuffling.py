"""What is drawn in the pipeline: orders, parts, random tokens, noise.

Each is compared with its closed form, over many seeds.
"""

import collections
import itertools
import json

import numpy as np
import pytest

from input_pipeline.objectives import features, lengths
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.streams import chunks
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import BATCH, data_config, open_data, take
from tests.helpers.objectives import masked_config

FIRST = 10  # the id of a document or piece; the next ones follow
ORDERS = list(itertools.permutations(range(FIRST, FIRST + 4)))
CASES = [
  ('causal', 'decoder'),
  ('prefix', 'encoder_decoder'),
  ('prefix', 'decoder'),
  ('mlm', 'encoder'),
]


def settings(objective, **changes):
  if objective in ('mlm', 'sentence_pairs'):
    return masked_config(objective, **changes)
  plain = {'noise_density': 0.0, 'mean_span_length': 0.0, 'sentinels': 0}
  return data_config(
    objective=objective, **plain, **{'document_tokens': 0, 'pack': False}
    | changes,
  )  # fmt: skip


def rows_of(documents, config, family, seed):
  """The rows of a chunk: name -> array."""
  tokenizer = Numbers(300, config.sentinels, specials=config.masks)
  shapes = batch_shapes(config, family)
  documents = [np.array(ids, np.int32) for ids in documents]
  rows = make_rows(
    documents, tokenizer, config, shapes, np.random.default_rng(seed), family
  )
  return features.split(rows, shapes)


def texts(rows):
  """The text that each row was made from."""
  found = []
  for row in range(len(rows['inputs'])):
    tokens = rows['targets'][row]
    if 'encoder_inputs' in rows:
      tokens = np.concatenate([rows['encoder_inputs'][row], tokens])
    elif 'predict_at' in rows:
      chosen = rows['weights'][row] > 0
      tokens = rows['inputs'][row].copy()
      tokens[rows['predict_at'][row][chosen]] = rows['targets'][row][chosen]
    found.append(tokens)
  return found


def ours(tokens):
  return [n for n in tokens.tolist() if FIRST <= n < FIRST + 4]


def assert_uniform(counts, values):
  """Asserts that only the values occur, each about as often as the others."""
  assert counts.keys() == {*values}
  mean = sum(counts.values()) / len(values)
  spread = (mean * (1 - 1 / len(values))) ** 0.5
  assert max(abs(n - mean) for n in counts.values()) < 5 * spread


# ---- Orders ------------------------------------------------------------------


@pytest.mark.parametrize(('objective', 'family'), CASES)
def test_documents_of_a_chunk_are_shuffled(objective, family):
  """Four documents joined in a row come in all 24 orders, each once."""
  config = settings(objective, length=32, concatenate=True, pack=False)
  documents = [[FIRST + n] for n in range(4)]
  counts = collections.Counter()
  for seed in range(24 * 30):
    (text,) = texts(rows_of(documents, config, family, seed))
    counts[tuple(ours(text))] += 1
  assert_uniform(counts, ORDERS)


@pytest.mark.parametrize(('objective', 'family'), CASES)
def test_rows_of_a_chunk_are_shuffled(objective, family):
  """The four pieces of one document come in all 24 orders, each once."""
  config = settings(objective, length=16, concatenate=True, pack=False)
  size = {'causal': 16, 'mlm': 14}.get(objective)
  size = size or lengths.raw_lengths(config, family)[0]
  document = np.repeat(np.arange(FIRST, FIRST + 4), size)
  document = document[: len(document) - (objective == 'causal')]  # and EOS
  counts = collections.Counter()
  for seed in range(24 * 30):
    found = texts(rows_of([document], config, family, seed))
    assert all(len({*ours(text)}) == 1 for text in found)
    counts[tuple(ours(text)[0] for text in found)] += 1
  assert_uniform(counts, ORDERS)


def test_pairs_of_a_chunk_are_shuffled():
  """Pairs of one document are neighbours only as often as by chance."""
  config = settings('sentence_pairs', length=16)
  documents = [[FIRST + n] * 300 for n in range(4)]
  found = expected = 0
  for seed in range(40):
    text = np.stack(texts(rows_of(documents, config, 'encoder', seed)))
    first = text[:, 1]
    found += (first[1:] == first[:-1]).sum()
    _, numbers = np.unique(first, return_counts=True)
    expected += (numbers * (numbers - 1)).sum() / len(first)
  assert found > 500
  assert abs(found / expected - 1) < 0.1


def test_shards_of_an_epoch_are_shuffled():
  """The seed and the epoch order the files, and the parts of each."""
  orders = [
    sum(((f, p) for p in parts), ())
    for f in range(2)
    for parts in itertools.permutations(range(2))
  ]
  expected = {
    first + second
    for first, second in itertools.permutations(orders, 2)
    if first[0] != second[0]
  }
  for arguments in ([0, n] for n in range(400)), ([n, 0] for n in range(400)):
    counts = collections.Counter(
      sum(((int(f), int(p)) for f, p in chunks.shard_order(2, 2, *pair)), ())
      for pair in arguments
    )
    assert_uniform(counts, expected)


# ---- Parts and tokens --------------------------------------------------------


@pytest.mark.parametrize(
  ('objective', 'family'),
  [('prefix', 'decoder'), ('prefix', 'encoder_decoder')],
)
def test_long_documents_give_a_random_part(objective, family):
  """A document is cut into parts, and each is as likely; a short one is whole.

  The shorter rest at the end is a part too (T5's select_random_chunk).
  """
  config = settings(objective, length=128, document_tokens=8, concatenate=False)
  short, long = np.arange(20, 28), np.arange(30, 58)
  whole = [tuple(long[n : n + 8]) for n in range(0, 28, 8)]
  assert [len(part) for part in whole] == [8, 8, 8, 4]
  counts = collections.Counter()
  for seed in range(400):
    for text in texts(rows_of([short, long], config, family, seed)):
      text = tuple(n for n in text.tolist() if n >= 20)
      if text != tuple(short):
        counts[text] += 1
  assert sum(counts.values()) == 400
  assert_uniform(counts, whole)


@pytest.mark.parametrize('share', [0.5, 1.0])
def test_random_tokens_are_no_special_ones(share):
  """T5's MASS and BERT styles draw all ordinary tokens equally often."""
  config = data_config(
    objective='bert_style', random_share=share, noise_density=0.5,
    mean_span_length=0.0, length=256, concatenate=False,
  )  # fmt: skip
  tokenizer = Numbers(300, config.sentinels)
  rows = rows_of([[7] * 255] * 900, config, 'encoder_decoder', 0)
  read = rows['encoder_inputs']
  mask = int(tokenizer.sentinels[0])
  counts = collections.Counter(read[(read != 7) & (read > 0)].tolist())
  del counts[tokenizer.eos]
  masked = counts.pop(mask, 0)
  drawn = sum(counts.values())
  # Drawn as often as masked, but for those drawn as they were.
  assert abs(masked / (masked + drawn) - (1 - share)) < 0.01
  ordinary = {*range(300)} - {*tokenizer.specials} - {7}
  assert_uniform(counts, ordinary)


# ---- Noise -------------------------------------------------------------------


@pytest.fixture
def alike(tmp_path):
  """A function: seed -> data of a mixture whose documents are all alike.

  Each document fills a row.
  """
  pytest.importorskip('tensorflow')
  config = data_config(
    source='', mixture=[(f'json:{tmp_path}/{n}*', 0.5) for n in 'ab'],
    length=256, concatenate=False, pack=False, block=1, holdout=2,
    tokenizer_kind='bytes',
  )  # fmt: skip
  (size,) = lengths.raw_lengths(config, 'encoder_decoder')
  line = json.dumps({'text': 'x' * size}) + '\n'
  for name in itertools.product('ab', '01234567'):
    (tmp_path / ''.join(name)).write_text(line * 4)
  return lambda seed: open_data(config, seed, 300)


def test_noise_is_drawn_for_each_place(alike):
  """Two seeds, sources, streams, epochs, shards or chunks differ in noise.

  Training and evaluation differ too.
  """
  batches = []
  for seed in 0, 1:
    data = alike(seed)
    batches += take(data, 10)  # each document of a stream is read five times
    evaluated = data.evaluation(np.arange(BATCH), BATCH)
    batches += itertools.takewhile(lambda b: b['weights'].any(), evaluated)
    evaluated.close()
  rows = np.concatenate([batch['encoder_inputs'] for batch in batches])
  rows = rows[rows.any(axis=1)]
  assert len(rows) == 2 * (160 + 32)
  assert len(np.unique(rows, axis=0)) == len(rows)
