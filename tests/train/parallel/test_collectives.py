"""A step compiled for TPUs exchanges what its layout needs, and no more."""

from collections import Counter

import pytest

from configs import llama
from tests.helpers.slices import NEEDS_COMPILER
from train import fit
from train.fitting import meshes

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]
L, D, F, V = 2, 1024, 2816, 32_000
ROWS, T = 64, 1024
LAYER = 4 * D * D + 3 * D * F  # numbers in the seven weights of a layer
TABLES = 2 * V * D
HALF = 2  # bytes of bfloat16, in which weights, gradients and results travel


def exchanged(**mesh):
  """(count, bytes) by kind and axis, of all that is not tiny."""
  config = llama.get_config('7b')
  m = config.model
  m.decoder_layers, m.embed_dim, m.mlp_dim, m.vocab_size = L, D, F, V
  m.heads = m.kv_heads = 8
  m.head_dim = m.rope_dim = D // 8
  config.data.batch = config.data.streams = ROWS
  config.data.length = T
  meshes.apply(config, mesh)
  found = fit.fit(config, fit.topology('v5e:4x4'))
  counts, sizes = Counter(), Counter()
  for row in found['collectives']:
    if row['bytes'] > 1e6:
      counts[row['kind'], row['axes']] += row['count']
      sizes[row['kind'], row['axes']] += row['bytes']
  return {key: (counts[key], sizes[key]) for key in counts}


def check(found, minimum):
  assert found.keys() == minimum.keys()
  for key, (count, size) in minimum.items():
    assert found[key][0] <= 1.1 * count, key
    assert size <= found[key][1] <= 1.1 * size, key


def test_weights_are_gathered_once_a_pass_and_gradients_scattered():
  """The backward pass computes layers again; it needs no table of tokens."""
  weights = HALF * (L * LAYER + TABLES)
  minimum = {
    ('all-gather', 'fsdp'): (2 * 7 * L + 2, weights + HALF * L * LAYER),
    ('reduce-scatter', 'fsdp'): (7 * L + 2, weights),
    ('all-reduce', 'data'): (7 * L + 2, weights / 4),  # each its own part
  }
  check(exchanged(data=4, fsdp=4), minimum)


def test_tensor_parallelism_exchanges_activations():
  """Korthikanti et al. 2022, 4.2.2: a gather before and a scatter after each.

  Attention and the MLP gather what they read, its copy in the backward pass,
  and the gradient of what they give. They add up what they give, the gradients
  of what they read, and attention its output again. The logits do so once, and
  a lookup's parts change places.
  """
  rows = HALF * ROWS // 4 * T * D
  minimum = {
    ('all-gather', 'tensor'): (6 * L + 1, (6 * L + 1) * rows),
    ('reduce-scatter', 'tensor'): (5 * L + 1, (5 * L + 1) * rows),
    ('all-to-all', 'tensor'): (4, 2 * (rows + HALF * V * D) / 4),
    ('all-reduce', 'data'): (7 * L + 2, HALF * (L * LAYER + TABLES) / 4),
  }
  check(exchanged(data=4, tensor=4), minimum)


def test_parts_of_rows_under_tensor_parallelism():
  """Rows and lengths are cut: gradients are scattered over both axes.

  Keys and values are gathered along `sequence`, their gradients scattered.
  Each device deals its queries, for equal work.
  """
  found = exchanged(fsdp=2, sequence=2, tensor=4)
  rows = HALF * ROWS // 2 * T // 2 * D
  both, layers = 'fsdp x sequence', HALF * L * LAYER // 4
  table = HALF * V * D // 4
  minimum = {
    ('all-gather', both): (2 * 7 * L + 2, 2 * layers + 2 * table),
    ('reduce-scatter', both): (7 * L + 1, layers + table),
    ('all-reduce', both): (1, table),  # that of the tokens
    ('all-gather', 'tensor'): (6 * L + 1, (6 * L + 1) * rows),
    ('reduce-scatter', 'tensor'): (5 * L + 1, (5 * L + 1) * rows),
    ('all-gather', 'sequence'): (4 * L + 1, 4 * L * rows // 2),
    ('reduce-scatter', 'sequence'): (2 * L, 2 * L * rows // 2),
  }
  check({key: found[key] for key in minimum}, minimum)
  rest = {key: size for key, (_, size) in found.items() if key not in minimum}
  assert sum(rest.values()) < 2.5 * rows
