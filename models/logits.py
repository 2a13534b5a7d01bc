"""Logits of a vocabulary, computed for a few tokens of each row at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from models.layers import devices_of, gathered, linear, shard

BY_SIZE = -1  # as a chunk: the one that `tokens_at_once` chooses
LIMIT = 2**30  # bytes of float32 logits on a device; more are cut in chunks
CHUNK = 2**28  # bytes of a chunk


class ChunkedLogits(struct.PyTreeNode):
  """x W + b, [B,T,V], of which only [B,C,V] are in memory at a time.

  Loops over chunks of C tokens of each row call a function of their logits,
  float32 [B,C,V], and of the same chunk of other arrays [B,T]. The last chunk
  may end in zeros, whose results are dropped.
  """

  x: jax.Array  # [B,T,E], in the type of the product's operands
  kernel: jax.Array  # [E,V]; its gradient is summed in float32
  bias: jax.Array | None  # float32 [V]
  chunk: int = struct.field(pytree_node=False)  # C

  def map(self, function: Callable, *arrays: jax.Array) -> Any:
    """The function's results, one [B,C] or several: [B,T] each."""
    kernel = self._kernel()

    def one(_, now):
      x, *rest = now
      return None, function(product(x, kernel, self.bias), *rest)

    _, found = jax.lax.scan(one, None, self._chunks(self.x, *arrays))
    return jax.tree.map(self._join, found)

  def gradient(self, function: Callable, *arrays: jax.Array) -> Any:
    """The gradients of x, W and b; the function gives that of the logits."""
    kernel = self._kernel()
    B, (E, V) = self.x.shape[0], kernel.shape
    # Every device sums over its own rows. One sum over devices follows the
    # loop; without a dimension for them there would be one in each chunk.
    n = devices_of('act_batch', B)

    def own(x, name=None):  # [B,C,...] -> [n,B C / n,...]
      return shard(x.reshape(n, -1, x.shape[-1]), 'act_batch', None, name)

    def one(sums, now):
      x, *rest = now
      d_logits = function(product(x, kernel, self.bias), *rest)
      d_bias = own(d_logits, 'act_vocab').sum(axis=1)
      d_logits = d_logits.astype(x.dtype)
      d_x = jnp.einsum('BCV,EV->BCE', d_logits, kernel)
      d_kernel = jnp.einsum(
        'nRE,nRV->nEV', own(x), own(d_logits, 'act_vocab'),
        preferred_element_type='float32',
      )  # fmt: skip
      return add(sums, (d_kernel, d_bias)), d_x

    def add(a, b):
      kernel = shard(a[0] + b[0], 'act_batch', None, 'act_vocab')
      return kernel, shard(a[1] + b[1], 'act_batch', 'act_vocab')

    zeros = jnp.zeros((n, E, V), 'float32'), jnp.zeros((n, V), 'float32')
    (d_kernel, d_bias), d_x = jax.lax.scan(
      one, add(zeros, zeros), self._chunks(self.x, *arrays)
    )
    d_kernel = shard(d_kernel.sum(axis=0), 'embed', 'vocab')
    return self.replace(
      x=self._join(d_x),
      kernel=d_kernel.astype(self.kernel.dtype),
      bias=None if self.bias is None else d_bias.sum(axis=0),
    )

  def _kernel(self):
    """W as the product takes it, gathered once before a loop."""
    return gathered(self.kernel.astype(self.x.dtype), ('embed', 'vocab'))

  def _chunks(self, *arrays):
    """[B,T,...] -> [K,B,C,...] each."""

    def cut(x):
      pad = [(0, 0), (0, -x.shape[1] % self.chunk), *[(0, 0)] * (x.ndim - 2)]
      x = jnp.pad(x, pad)
      x = x.reshape(x.shape[0], -1, self.chunk, *x.shape[2:])
      return jnp.moveaxis(x, 1, 0)

    return tuple(cut(x) for x in arrays)

  def _join(self, x):
    """[K,B,C,...] -> [B,T,...]."""
    x = jnp.moveaxis(x, 0, 1)
    x = x.reshape(x.shape[0], -1, *x.shape[3:])
    return x[:, : self.x.shape[1]]


def product(
  x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> jax.Array:
  """x W + b: [B,T,E], [E,V], [V] -> float32 [B,T,V]."""
  kernel = gathered(kernel.astype(x.dtype), ('embed', 'vocab'))
  logits = linear(x, kernel, 'float32')
  if bias is not None:
    logits = logits + bias
  return shard(logits, 'act_batch', 'act_length', 'act_vocab')


def tokens_at_once(chunk: int, B: int, T: int, V: int) -> int:
  """C, how many tokens of each row have logits in memory together.

  With BY_SIZE it is T if float32 [B,T,V] takes at most LIMIT bytes on each
  device, else what takes at most CHUNK. 0 is T.
  """
  if chunk == BY_SIZE:
    shards = devices_of('act_batch', B) * devices_of('act_vocab')
    token = -(-4 * B * V // shards)  # bytes
    if token * T <= LIMIT:
      return T
    pieces = -(-T // max(1, CHUNK // token))
    chunk = -(-T // pieces)  # about equal ones
  return min(chunk or T, T)
