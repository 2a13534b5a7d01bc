"""Where a token stands, told to the model.

A scheme enters at one of three places: added to the embeddings (`embed.py`),
turning queries and keys, or added to the attention logits as `bias` (both in
`attention.py`). Relative bias is of the third kind.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.layers import named, shard


def relative_bucket(
  distance: jax.Array, buckets: int, max_distance: int, bidirectional: bool
) -> jax.Array:
  """T5's bucket of a distance (Raffel et al. 2020, 2.1).

  Args:
    distance: int, any shape, key position minus query position.
    buckets: how many buckets share the distances.
    max_distance: distances from here on share the last bucket.
    bidirectional: half of the buckets for keys after the query. Otherwise such
      keys count as distance 0 (a causal mask hides them).

  Returns:
    int32 in [0, buckets), the shape of `distance`. Half of a direction's
    buckets hold one distance each, the others grow logarithmically.

  Example, 32 buckets to 128, bidirectional: distances -200, -9, -1, 0, 1, 9,
  200 fall into buckets 15, 8, 1, 0, 17, 24, 31.
  """
  offset = 0
  if bidirectional:
    buckets //= 2
    offset = jnp.where(distance > 0, buckets, 0)
    distance = jnp.abs(distance)
  else:
    distance = jnp.maximum(-distance, 0)
  exact = buckets // 2
  # Where the logarithm turns whole is a matter of rounding: float32 and this
  # order of operations are those of the published models.
  growth = jnp.log(jnp.maximum(distance, exact).astype('float32') / exact)
  growth = growth / np.log(max_distance / exact) * (buckets - exact)
  far = jnp.minimum(exact + growth.astype('int32'), buckets - 1)
  return (offset + jnp.where(distance < exact, distance, far)).astype('int32')


class RelativeBias(nn.Module):
  """One learned scalar per bucket and head, added to the attention logits."""

  config: TransformerConfig
  bidirectional: bool

  @nn.compact
  def __call__(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
    """int [T], [S] positions -> float32 [N,T,S]."""
    c = self.config
    table = self.param(
      'table',
      named(
        nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
        'buckets',
        'heads',
      ),
      (c.relative_buckets, c.heads),
      'float32',
    )
    bucket = relative_bucket(
      keys[None, :] - queries[:, None],
      c.relative_buckets,
      c.relative_max_distance,
      self.bidirectional,
    )
    # A product with one-hot rows: its gradient is a product too, where a
    # gather's would be a scatter of T * S additions.
    one_hot = jax.nn.one_hot(bucket, c.relative_buckets, dtype='float32')
    bias = jnp.einsum('TSb,bN->NTS', one_hot, table, precision='highest')
    return shard(bias, 'act_heads', 'act_length', 'act_keys')
