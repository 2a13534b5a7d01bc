"""Heads: what the last layer's output is read for."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import Dense, Dropout, Norm, activate, initializer
from models.logits import ChunkedLogits, product, tokens_at_once
from models.sharding import named, shard

JOINT = 20  # starts of an answer that are followed
JOINT_WIDTH = 512  # of the layers inside
FASTER = 10.0  # than others a unigram's logits learn


class Vocabulary(nn.Module):
  """Logits of tokens: [..., D] -> float32 [..., V].

  The product has operands in `dtype` and sums in float32. (T5X gives T5 1.1's
  layer float32 operands, which a TPU's product rounds to bfloat16 as well.)
  With `output_transform` a dense layer, the activation and a norm come first:
  BERT's head of masked tokens (Devlin et al. 2019 and its released code).
  """

  config: TransformerConfig
  chunk: int = 0  # `tokens_at_once`

  @nn.compact
  def __call__(
    self, x: jax.Array, table: jax.Array, few: bool = False
  ) -> jax.Array | ChunkedLogits:
    """`table` [V,E] is the token table, the output projection if tied.

    `few` says that x are the few tokens of a step of decoding.
    """
    c = self.config
    if c.scale_output:
      x = x * (c.base_dim or c.embed_dim) ** -0.5
    if c.output_transform:
      init, axes = initializer(c, 'transform'), ('embed', 'table')
      dense = Dense(c.table_width, axes, init, c.dtype, True, name='dense')
      x = Norm(c, name='norm')(activate(c.activation, dense(x)))
    if c.base_dim:
      x = x / c.widening
    if c.tie_embeddings:
      kernel = table.T
    else:
      init = named(initializer(c, 'output'), 'embed', 'vocab')
      shape = x.shape[-1], c.vocab_size
      kernel = self.param('output', init, shape, 'float32')
    x, bias = x.astype(c.dtype), None
    if c.output_bias:
      zeros = named(nn.initializers.zeros, 'vocab')
      bias = self.param('bias', zeros, (c.vocab_size,), 'float32')
    if self.chunk:
      chunk = tokens_at_once(self.chunk, *x.shape[:2], c.vocab_size)
      if chunk < x.shape[1]:
        return ChunkedLogits(x, kernel, bias, chunk)
    if c.tie_embeddings and few:
      # For several rows a CPU multiplies the table by x faster than x by the
      # transposed table. XLA would swap them back.
      logits = jax.lax.dot_general(
        table.astype(c.dtype), x, (((1,), (2,)), ((), ())),
        preferred_element_type='float32',
      )  # fmt: skip
      logits = jnp.moveaxis(jax.lax.optimization_barrier(logits), 0, -1)
      return logits if bias is None else logits + bias
    return product(x, kernel, bias)


class Values(nn.Module):
  """What the tokens after each place are expected to bring (PPO).

  [B,T,D] -> float32 [B,T]. All are 0 at first, so that the first advantages are
  the returns themselves.
  """

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    zeros = nn.initializers.zeros
    axes = ('embed', 'classes')
    return Dense(1, axes, zeros, 'float32', True, name='dense')(x)[..., 0]


class Unigram(nn.Module):
  """The same logits at all places: int [B,P] -> float32 [B,P,V].

  ELECTRA's simplest generator (Clark et al. 2020, 3.2) samples tokens by their
  frequency in the corpus. Here it learns that frequency, with the loss of
  masked tokens: a logit for each token, whose optimum is the logarithm of the
  token's frequency among the masked ones. So the data need no pass to count
  tokens, and resuming no file of counts. All tokens start equally likely. Adam
  moves a number by about the learning rate in each step, and logits have some
  10 nats to go: they are FASTER times the numbers that are learnt, and so
  arrive within the 10,000 steps of ELECTRA's warm-up.
  """

  config: TransformerConfig
  chunk: int = 0  # `tokens_at_once`

  @nn.compact
  def __call__(self, at: jax.Array) -> jax.Array | ChunkedLogits:
    V = self.config.vocab_size
    zeros = named(nn.initializers.zeros, 'vocab')
    bias = FASTER * self.param('bias', zeros, (V,), 'float32')
    if self.chunk:
      chunk = tokens_at_once(self.chunk, *at.shape, V)
      if chunk < at.shape[1]:
        nothing = jnp.zeros((*at.shape, 1)), jnp.zeros((1, V))
        return ChunkedLogits(*nothing, bias, chunk)
    logits = jnp.broadcast_to(bias, (*at.shape, V))
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
    init = initializer(c, 'transform')
    axes = ('embed', 'hidden')
    dense = Dense(c.embed_dim, axes, init, c.dtype, True, name='dense')
    first = x[:, 0]
    if self.dropout:
      first = Dropout(c.dropout)(first)
    return jnp.tanh(dense(first))


def last(x: jax.Array, segments: jax.Array) -> jax.Array:
  """The last token of each row: [B,T,D] with int segments [B,T] -> [B,D]."""
  at = jnp.where(segments > 0, jnp.arange(segments.shape[1]), 0)
  at = jnp.max(at, axis=1)
  return jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]


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
    if c.base_dim:
      x = x / c.widening
    init = initializer(c, 'output')
    axes = ('embed', 'classes')
    dense = Dense(self.classes, axes, init, 'float32', self.bias, name='dense')
    return dense(x)


class JointSpan(nn.Module):
  """An answer's start, its end given the start, and whether there is none.

  The module for questions in ELECTRA's released code (Clark et al. 2020, 3.1,
  after Yang et al. 2019). Logits of places that are not `allowed` are 1000
  lower.
  """

  config: TransformerConfig

  @nn.compact
  def __call__(
    self, x: jax.Array, allowed: jax.Array, start: jax.Array | None = None
  ) -> dict[str, jax.Array] | jax.Array:
    """[B,T,D], bool [B,T], int [B] -> float32 logits.

    Returns:
      Of training, with the right `start`: 'start', 'end' [B,T] and 'no_answer'
      [B]. Without it [B,2+K,T]: the logarithm of each start's probability; the
      logit of no answer, the same at all places; and of each of the K = JOINT
      likeliest starts (or T) the logarithm of each end's probability.
    """
    c = self.config
    init = initializer(c, 'output')
    x = x.astype('float32')

    def dense(name, x, width=JOINT_WIDTH, bias=True):
      axes = ('embed', 'hidden') if width > 1 else ('hidden', 'classes')
      axes = ('embed', 'classes') if name == 'start' else axes
      return Dense(width, axes, init, 'float32', bias, name=name)(x)

    def number(name, x):
      return dense(name, x, 1)[..., 0]

    out = jnp.where(allowed, 0.0, -1000.0)  # [B,T]
    starts = number('start', x) + out
    # One layer for both vectors, as the sum of its halves.
    here = dense('end_here', x)  # [B,T,W]
    from_start = dense('end_from_start', x, bias=False)

    def ends(start):  # [B,K] -> [B,K,T]
      chosen = jnp.take_along_axis(from_start, start[..., None], axis=1)
      both = activate(c.activation, chosen[:, :, None] + here[:, None])
      return number('end', both) + out[:, None]

    likely = jnp.einsum('BT,BTD->BD', jax.nn.softmax(starts), x)
    both = dense('no_answer_hidden', jnp.concatenate([x[:, 0], likely], -1))
    no_answer = number('no_answer', activate(c.activation, both))
    if start is not None:
      end = ends(start[:, None])[:, 0]
      return {'start': starts, 'end': end, 'no_answer': no_answer}
    starts = jax.nn.log_softmax(starts)
    _, best = jax.lax.top_k(starts, min(JOINT, starts.shape[-1]))
    no_answer = jnp.broadcast_to(no_answer[:, None], starts.shape)
    return jnp.concatenate(
      [starts[:, None], no_answer[:, None], jax.nn.log_softmax(ends(best))],
      axis=1,
    )


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
