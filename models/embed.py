"""Tokens to vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import Norm, dropout, initializer
from models.positions import sinusoids
from models.sharding import gathered, named, shard


class Embed(nn.Module):
  """The tables of tokens, positions and types, shared by all stacks."""

  config: TransformerConfig
  tokens: bool = True  # False: the table of tokens is another module's

  def setup(self):
    c = self.config

    def table(name, role, rows, axis):
      init = named(initializer(c, role), axis, 'embed')
      return self.param(name, init, (rows, c.table_width), 'float32')

    if self.tokens:
      self.table = table('table', 'table', c.vocab_size, 'vocab')
    if c.position == 'learned':
      self.position = table('position', 'position', c.max_length, 'positions')
    if c.token_types:
      self.type = table('type', 'table', c.token_types, 'types')
    if c.embed_norm:
      self.norm = Norm(c)
    self.dropout = dropout(c)

  def __call__(
    self,
    tokens: jax.Array,
    positions: jax.Array | None = None,
    types: jax.Array | None = None,
    table: jax.Array | None = None,
  ) -> jax.Array:
    """int [B,T], [B,T] (or [1,T]), [B,T] -> [B,T,E].

    E is the width of the tables. Without `positions` the row's first token has
    position 0; without `types` all tokens have type 0. `table` [V,E] is read
    where the module has no table of tokens.

    Raises:
      ValueError: more tokens than the table has positions.
    """
    c = self.config
    # A batch is cut by rows alone.
    tokens = shard(tokens, 'act_batch', 'act_length')
    if positions is None:
      positions = jnp.arange(tokens.shape[1])[None]

    def rows(table, axis, at):
      # Looking rows up in a table that is sharded along D would reshard all of
      # them: gather that dimension of the table first.
      whole = gathered(table.astype(c.dtype), (axis, 'embed'))
      return jnp.take(whole, at, axis=0)

    x = rows(self.table if self.tokens else table, 'vocab', tokens)
    if c.scale_embed:
      x = x * c.embed_dim**0.5
    if c.position == 'learned':
      places = c.max_length - c.position_offset
      if tokens.shape[1] > places:
        raise ValueError(
          f'{tokens.shape[1]} tokens in a row, but model.max_length='
          f'{c.max_length} has positions for {places}.'
        )
      x = x + rows(self.position, 'positions', positions + c.position_offset)
    elif c.position == 'sinusoidal':
      x = x + sinusoids(positions, c.table_width).astype(c.dtype)
    if c.token_types:
      types = jnp.zeros_like(tokens) if types is None else types
      # A product: a lookup's gradient adds all tokens to a few rows, one after
      # the other. That took a third of BERT-large's step on a GPU.
      chosen = jax.nn.one_hot(types, c.token_types, dtype=c.dtype)
      x = x + chosen @ gathered(self.type.astype(c.dtype), ('types', 'embed'))
    if c.embed_norm:
      x = self.norm(x)
    x = shard(x, 'act_batch', 'act_residual', 'act_embed')
    return self.dropout(x)
