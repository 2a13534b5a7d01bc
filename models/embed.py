"""Tokens to vectors and vectors to logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import named, shard


class Embed(nn.Module):
  """The token table, shared by all stacks, and the output projection."""

  config: TransformerConfig

  def setup(self):
    c = self.config
    self.table = self.param(
      'table',
      named(nn.initializers.normal(1.0), 'vocab', 'embed'),
      (c.vocab_size, c.embed_dim),
      'float32',
    )
    if not c.tie_embeddings:
      fan_in = nn.initializers.variance_scaling(
        1.0, 'fan_in', 'truncated_normal'
      )
      self.output = self.param(
        'output',
        named(fan_in, 'embed', 'vocab'),
        (c.embed_dim, c.vocab_size),
        'float32',
      )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """int [B,T] -> [B,T,D]."""
    # Rows gathered from a table that is cut along D would be re-laid one and
    # all: gather that dimension of the table first.
    table = shard(self.table.astype(self.config.dtype), 'vocab', None)
    x = jnp.take(table, tokens, axis=0)
    return shard(x, 'act_batch', 'act_length', 'act_embed')

  def logits(self, x: jax.Array) -> jax.Array:
    """[B,T,D] -> float32 [B,T,V]."""
    c = self.config
    if c.scale_output:
      x = x * c.embed_dim**-0.5
    kernel = self.table.T if c.tie_embeddings else self.output
    logits = jnp.dot(
      x.astype(c.dtype),
      kernel.astype(c.dtype),
      preferred_element_type='float32',
    )
    return shard(logits, 'act_batch', 'act_length', 'act_vocab')
