"""Our weights as arrays, built from one tensor at a time."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from models.build import build
from models.config import TransformerConfig
from models.pretrained.mapping import Piece

Read = Callable[[str], np.ndarray]


@functools.lru_cache(maxsize=8)
def leaf_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
  """The shape of every weight by its path, 'embed/table'; computes nothing."""
  shapes = jax.eval_shape(_init(config), jax.random.key(0))
  return {leaf: x.shape for leaf, x in shapes.items()}


def initial(
  config: TransformerConfig, leaves: list[str], seed: int
) -> dict[str, np.ndarray]:
  """The initial values of some weights, by path."""
  init = _init(config)

  def some(key):
    everything = init(key)
    return {leaf: everything[leaf] for leaf in leaves}

  return jax.device_get(jax.jit(some)(jax.random.key(seed)))


def _init(config):
  """A function of a key that returns new parameters by path."""
  model = build(config)
  inputs = {name: jnp.zeros((1, 1), 'int32') for name in model.INPUTS}

  def init(key):
    params = nn.unbox(model.init(key, **inputs)['params'])
    return flatten_dict(params, sep='/')

  return init


def build_leaf(
  pieces: list[Piece],
  shape: tuple[int, ...],
  read: Read,
  sharding: Sharding | None,
) -> np.ndarray | jax.Array:
  """One of our weights, float32.

  Without a sharding it is built on the host, in place. With one, a stacked
  weight is built on the devices, layer by layer: the host holds one layer of it
  and one tensor of the file at a time.
  """
  if sharding is None or pieces[0].layer is None:
    out = np.empty(shape, 'float32')
    for piece in pieces:
      ours = out if piece.layer is None else out[piece.layer]
      piece.copy_in(read(piece.theirs), ours)
    return out if sharding is None else put(out, sharding)

  one, start, insert = _stacking(shape, sharding)
  stack = start()
  for i in range(shape[0]):
    layer = np.empty(shape[1:], 'float32')
    for piece in pieces:
      if piece.layer == i:
        piece.copy_in(read(piece.theirs), layer)
    stack = insert(stack, put(layer, one), i)
    # Layers stay in host memory while their transfers wait in a queue.
    stack.block_until_ready()
  return stack


@functools.lru_cache(maxsize=64)
def _stacking(shape, sharding):
  """The sharding of one layer; makes an empty stack; inserts a layer."""
  one = sharding
  if isinstance(sharding, NamedSharding):
    one = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))

  def start():
    return jnp.zeros(shape, 'float32')

  def insert(stack, layer, i):
    return jax.lax.dynamic_update_index_in_dim(stack, layer, i, 0)

  return (
    one,
    jax.jit(start, out_shardings=sharding),
    jax.jit(insert, donate_argnums=0, out_shardings=sharding),
  )


def put(x: np.ndarray, sharding: Sharding) -> jax.Array:
  """A host array that every process has -> the devices of all processes."""
  return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])
