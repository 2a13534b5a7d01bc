"""Logits of a vocabulary, computed for a few tokens of each row at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from models.layers import linear
from models.sharding import devices_of, equal_parts, gathered, shard

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
    # Every device sums over its own tokens. One sum over devices follows the
    # loop; without dimensions for them there would be one in each chunk.
    n, s = devices_of('act_batch', B), self._parts()

    def own(x, name=None):  # [B,C,...] -> [n,s,B C / n s,...]
      x = x.reshape(n, B // n, s, -1, x.shape[-1]).swapaxes(1, 2)
      x = x.reshape(n, s, -1, x.shape[-1])
      return shard(x, 'act_batch', 'act_length', None, name)

    def one(sums, now):
      x, *rest = now
      d_logits = function(product(x, kernel, self.bias), *rest)
      d_bias = own(d_logits, 'act_vocab').sum(axis=2)
      d_logits = d_logits.astype(x.dtype)
      d_x = jnp.einsum('BCV,EV->BCE', d_logits, kernel)
      d_kernel = jnp.einsum(
        'nsRE,nsRV->nsEV', own(x), own(d_logits, 'act_vocab'),
        preferred_element_type='float32',
      )  # fmt: skip
      return add(sums, (d_kernel, d_bias)), d_x

    def add(a, b):
      axes = 'act_batch', 'act_length'
      kernel = shard(a[0] + b[0], *axes, None, 'act_vocab')
      return kernel, shard(a[1] + b[1], *axes, 'act_vocab')

    zeros = jnp.zeros((n, s, E, V), 'float32'), jnp.zeros((n, s, V), 'float32')
    (d_kernel, d_bias), d_x = jax.lax.scan(
      one, add(zeros, zeros), self._chunks(self.x, *arrays)
    )
    d_kernel = shard(d_kernel.sum(axis=(0, 1)), 'embed', 'vocab')
    return self.replace(
      x=self._join(d_x),
      kernel=d_kernel.astype(self.kernel.dtype),
      bias=None if self.bias is None else d_bias.sum(axis=(0, 1)),
    )

  def _kernel(self):
    """W as the product takes it, gathered once before a loop."""
    return gathered(self.kernel.astype(self.x.dtype), ('embed', 'vocab'))

  def _parts(self):
    """Into how many parts the mesh cuts a row: each device chunks its own."""
    return equal_parts('act_length', self.x.shape[1])

  def _chunks(self, *arrays):
    """[B,T,...] -> [K,B,C,...] each; of a row that is cut, C from all parts."""
    s = self._parts()
    own = -(-self.chunk // s)  # of a part

    def cut(x):
      B, T, *rest = x.shape
      x = x.reshape(B, s, T // s, *rest)
      if s > 1:
        x = shard(x, 'act_batch', 'act_length', *[None] * (x.ndim - 2))
      pad = [(0, 0), (0, 0), (0, -x.shape[2] % own), *[(0, 0)] * len(rest)]
      x = jnp.pad(x, pad).reshape(B, s, -1, own, *rest)
      return jnp.moveaxis(x, 2, 0).reshape(-1, B, s * own, *rest)

    return tuple(cut(x) for x in arrays)

  def _join(self, x):
    """[K,B,C,...] -> [B,T,...]."""
    s, T = self._parts(), self.x.shape[1]
    K, B, C, *rest = x.shape
    x = jnp.moveaxis(x.reshape(K, B, s, C // s, *rest), 0, 2)
    x = x.reshape(B, s, -1, *rest)[:, :, : T // s]
    return x.reshape(B, T, *rest)


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
    shards *= equal_parts('act_length', T)
    token = -(-4 * B * V // shards)  # bytes
    if token * T <= LIMIT:
      return T
    pieces = -(-T // max(1, CHUNK // token))
    chunk = -(-T // pieces)  # about equal ones
  return min(chunk or T, T)
