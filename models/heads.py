"""Heads: what the last layer's output is read for."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import (
  Dense,
  Dropout,
  Norm,
  activate,
  initializer,
  linear,
  named,
  shard,
)


class Vocabulary(nn.Module):
  """Logits of tokens: [..., D] -> float32 [..., V].

  The product has operands in `dtype` and sums in float32. (T5X gives T5 1.1's
  layer float32 operands, which a TPU's product rounds to bfloat16 as well.)
  With `output_transform` a dense layer, the activation and a norm come first:
  BERT's head of masked tokens (Devlin et al. 2019 and its released code).
  """

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
    """`table` [V,E] is the token table, the output projection if tied."""
    c = self.config
    init = initializer(c, 'output')
    if c.scale_output:
      x = x * c.embed_dim**-0.5
    if c.output_transform:
      dense = Dense(
        c.table_width, ('embed', 'table'), init, c.dtype, True, name='dense'
      )
      x = Norm(c, name='norm')(activate(c.activation, dense(x)))
    if c.tie_embeddings:
      kernel = table.T
    else:
      shape, init = (x.shape[-1], c.vocab_size), named(init, 'embed', 'vocab')
      kernel = self.param('output', init, shape, 'float32')
    logits = linear(x.astype(c.dtype), kernel.astype(c.dtype), 'float32')
    if c.output_bias:
      zeros = named(nn.initializers.zeros, 'vocab')
      logits = logits + self.param('bias', zeros, (c.vocab_size,), 'float32')
    return shard(logits, 'act_batch', 'act_length', 'act_vocab')


class Pooler(nn.Module):
  """tanh(x W + b) of the first position: [B,T,D] -> [B,D] (BERT).

  With `dropout` x drops first: RoBERTa's classification head.

  Position 0 is read whatever its segment, as in the released code, where it is
  always [CLS]. In a row that is padded on the left it is padding: the result
  means nothing (and differs from that of transformers).
  """

  config: TransformerConfig
  dropout: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    init = initializer(c, 'output')
    axes = ('embed', 'hidden')
    dense = Dense(c.embed_dim, axes, init, c.dtype, True, name='dense')
    first = x[:, 0]
    if self.dropout:
      first = Dropout(c.dropout)(first)
    return jnp.tanh(dense(first))


class Classes(nn.Module):
  """One linear layer, after dropout: [..., D] -> float32 [..., classes].

  BERT's code has no dropout before its heads for the next sentence and spans.
  """

  config: TransformerConfig
  classes: int
  bias: bool = True
  dropout: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    if self.dropout:
      x = Dropout(c.dropout)(x)
    init = initializer(c, 'output')
    axes = ('embed', 'classes')
    dense = Dense(self.classes, axes, init, 'float32', self.bias, name='dense')
    return dense(x)


class Replaced(nn.Module):
  """ELECTRA's discriminator: was the token replaced? [B,T,D] -> logits [B,T].

  Clark et al. 2020, 2, and its released code: dense, activation, one number.
  """

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    init = initializer(c, 'output')
    axes = ('embed', 'hidden')
    x = Dense(c.embed_dim, axes, init, c.dtype, True, name='dense')(x)
    x = activate(c.activation, x)
    axes = ('embed', 'classes')
    init = initializer(c, 'replaced')
    return Dense(1, axes, init, 'float32', True, name='output')(x)[..., 0]
