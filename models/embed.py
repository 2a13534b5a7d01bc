"""Tokens, or vectors of another width, to vectors of the model's width."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from models.config import TransformerConfig
from models.layers import Dense, Norm, dropout, initializer
from models.positions import sinusoids
from models.sharding import (
  as_stored,
  fitting,
  gathered,
  larger,
  named,
  shard,
  shard_residual,
)


class Embed(nn.Module):
  """The tables of tokens, positions and types, shared by all stacks.

  With `model.input_dim` a linear layer is in place of the table of tokens, and
  reads vectors (Garg et al. 2022).
  """

  config: TransformerConfig
  tokens: bool = True  # False: the table of tokens is another module's

  def setup(self):
    c = self.config

    def table(name, role, rows, axis):
      init = named(initializer(c, role), axis, 'embed')
      return self.param(name, init, (rows, c.table_width), 'float32')

    if c.input_dim:
      init, axes = initializer(c, 'input'), ('types', 'embed')
      self.vectors = Dense(c.embed_dim, axes, init, c.dtype, bias=True)
    elif self.tokens:
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

    With `model.input_dim` `tokens` are float32 [B,T,input_dim]. E is the width
    of the tables. Without `positions` the row's first token has
    position 0; without `types` all tokens have type 0. `table` [V,E] is read
    where the module has no table of tokens.

    Raises:
      ValueError: more tokens than the table has positions.
    """
    c = self.config
    # A batch is cut by rows alone.
    axes = ('act_embed',) if c.input_dim else ()
    tokens = shard(tokens, 'act_batch', 'act_length', *axes)
    if positions is None:
      positions = jnp.arange(tokens.shape[1])[None]

    if c.input_dim:
      x = self.vectors(tokens)
    else:
      table = self.table if self.tokens else table
      x = look_up(table.astype(c.dtype), tokens)
    if c.scale_embed:
      x = x * (c.base_dim or c.embed_dim) ** 0.5
    if c.position == 'learned':
      places = c.max_length - c.position_offset
      if tokens.shape[1] > places:
        raise ValueError(
          f'{tokens.shape[1]} tokens in a row, but model.max_length='
          f'{c.max_length} has positions for {places}.'
        )
      learned = gathered(self.position.astype(c.dtype), ('positions', 'embed'))
      x = x + jnp.take(learned, positions + c.position_offset, axis=0)
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
    return self.dropout(shard_residual(x))


class Cut(NamedTuple):
  """The mesh axes that cut a lookup.

  Attributes:
    rows, length: of the tokens [B,T].
    width: of the table's dimension E.
    stored: the further axes that cut E where the table is stored.
  """

  rows: tuple[str, ...]
  length: tuple[str, ...]
  width: tuple[str, ...]
  stored: tuple[str, ...]


def look_up(table: jax.Array, tokens: jax.Array) -> jax.Array:
  """[V,E], int [B,T] -> [B,T,E].

  Each device looks its own tokens up. Where the rules cut a vocabulary, it has
  all rows of a part of E: its results then change places, where parts of V
  would have to be added up. In the backward pass each device adds up its own
  tokens, and gets its part of the sum over all devices; the compiler would give
  every device the whole sum.
  """
  mesh = jax.sharding.get_abstract_mesh()
  rules = nn.get_logical_axis_rules()
  if mesh.empty or mesh.manual_axes or not rules:
    return jnp.take(table, tokens, axis=0)
  B, T, E = *tokens.shape, table.shape[1]

  def axes(name):
    return larger(mesh, *nn.logical_to_mesh_axes((name,)))

  rows = fitting(mesh, axes('act_batch'), B)
  length = fitting(mesh, axes('act_length'), T)
  width = fitting(mesh, axes('vocab'), E)
  stored = [x for x in axes('embed') if x in (*rows, *length)]
  stored = fitting(mesh, (*width, *stored), E)[len(width) :]
  return _look_up(table, tokens, Cut(rows, length, width, stored))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _look_up(table, tokens, cut):
  find = jax.shard_map(
    lambda table, tokens: jnp.take(table, tokens, axis=0),
    in_specs=(_spec((), cut.width), _spec(cut.rows, cut.length)),
    out_specs=_spec(cut.rows, cut.length, cut.width),
    check_vma=False,
  )
  return find(table, tokens)


def _forward(table, tokens, cut):
  return _look_up(table, tokens, cut), (tokens, table.shape[0])


def _backward(cut, kept, d_found):
  tokens, V = kept
  others = tuple(x for x in (*cut.rows, *cut.length) if x not in cut.stored)

  def add(tokens, d_found):  # [b,t], [b,t,e] -> [V,e'], of this device
    sums = jnp.zeros((V, d_found.shape[-1]), d_found.dtype)
    sums = sums.at[tokens].add(d_found)
    if cut.stored:
      sums = jax.lax.psum_scatter(
        sums, cut.stored, scatter_dimension=1, tiled=True
      )
    return jax.lax.psum(sums, others) if others else sums

  add = jax.shard_map(
    add,
    in_specs=(
      _spec(cut.rows, cut.length),
      _spec(cut.rows, cut.length, cut.width),
    ),
    out_specs=_spec((), (*cut.width, *cut.stored)),
    check_vma=False,
  )
  d_table = add(tokens, d_found)
  return as_stored(d_table, d_table.shape, ('vocab', 'embed')), None


_look_up.defvjp(_forward, _backward)


def _spec(*cuts):
  return PartitionSpec(*(axes or None for axes in cuts))
