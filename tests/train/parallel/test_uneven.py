"""What a mesh does not divide, and ZeRO-1: training equals one device's."""

import jax

from tests.train.parallel import test_sharding
from tests.train.parallel.test_sharding import (
  assert_same_training,
  check_places,
  train,
)

host_batches = test_sharding.host_batches  # fixtures
one_device = test_sharding.one_device


def test_what_the_mesh_does_not_divide(host_batches):
  """A vocabulary, a length, and fewer key heads than devices.

  The table is stored along its other dimension, and keys and values whole.
  """
  odd = {'model.vocab_size': 66, 'model.kv_heads': 2, 'model.dropout': 0.0}
  batches = [
    {
      name: x if name.startswith(('cursor', 'encoder')) else x[:, :13]
      for name, x in batch.items()
    }
    for batch in host_batches
  ]
  sizes = {'data': 1, 'fsdp': 2, 'tensor': 4}
  ours = train(batches, 'auto', sizes, **odd)
  one = jax.devices()[:1]
  theirs = train(batches, 'replicated', {'data': 1}, one, **odd)
  assert_same_training(ours, theirs)
  params = ours[1].params
  table = params['embed']['table'].addressable_shards[0].data
  assert table.shape == (66, 16 // 8)
  attention = params['decoder']['layers']['attention']
  key = attention['key']['kernel'].addressable_shards[0].data
  assert key.shape == (2, 16 // 2, 2 * 8)
  query = attention['query']['kernel'].addressable_shards[0].data
  assert query.shape == (2, 16 // 2, 4 * 8 // 4)


def test_zero1_cuts_the_state_of_the_optimizer_alone(host_batches, one_device):
  ours = train(host_batches, 'zero1_tensor', {'data': 4, 'tensor': 2})
  assert_same_training(ours, one_device)
  check_places(ours[1], {'tensor': 2, 'fsdp': 4}, 'tensor', moments=4)
