"""The state that training carries from step to step, made on the mesh."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, PartitionSpec

from train.learning.optimizer import state_axes
from train.learning.tuning import EVERYTHING, Tuning
from train.parallel import sharding


class TrainState(struct.PyTreeNode):
  """Parameters, optimizer state and place in the data after `step` steps."""

  step: Any  # int32 []
  params: Any
  opt_state: Any
  cursor: Any  # int32 [streams, C]: the last row consumed of each stream


def _init_params(model: nn.Module, rng: jax.Array) -> Any:
  """Boxed parameters. Batch and length do not matter: 1 x 1 will do."""
  inputs = {name: jnp.zeros((1, 1), 'int32') for name in model.INPUTS}
  return model.init(rng, **inputs)['params']


def abstract_params(model: nn.Module) -> tuple[Any, Any]:
  """Shapes and logical axis names of a model's parameters; computes nothing.

  Two trees: of ShapeDtypeStruct, and of tuples with a name per dimension.
  """
  boxed = jax.eval_shape(lambda: _init_params(model, jax.random.key(0)))
  names = jax.tree.map(
    tuple,
    nn.get_partition_spec(boxed),
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )
  return jax.eval_shape(nn.unbox, boxed), names


def count_params(shapes: Any) -> int:
  """How many numbers a tree of arrays or shapes holds."""
  return sum(x.size for x in jax.tree.leaves(shapes))


def abstract_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  cursor_shape: tuple[int, int],
  mesh: Mesh,
  rules: sharding.Rules,
  tuning: Tuning = EVERYTHING,
) -> TrainState:
  """The state's shapes with their shardings: a tree of ShapeDtypeStruct.

  Raises ValueError if a weight has a name that no rule knows, or the mesh does
  not divide it.
  """
  params, names = tuning.extended(*abstract_params(model))
  opt_state = jax.eval_shape(optimizer.init, tuning.trained(params))
  step = jax.ShapeDtypeStruct((), 'int32')
  cursor = jax.ShapeDtypeStruct(cursor_shape, 'int32')
  state = TrainState(step, params, opt_state, cursor)
  opt_axes = state_axes(opt_state, tuning.trained(names))
  axes = TrainState((), names, opt_axes, ('streams', 'place'))
  rules = (*rules, ('streams', None), ('place', None))
  places = sharding.shardings(mesh, rules, axes, state)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    places,
  )


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
  """Whether all numbers of the state are finite, a bool []."""
  return jnp.all(
    jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state)])
  )


def create_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  abstract: TrainState,
  cursor: np.ndarray,
  seed: int,
  given: dict | None = None,
  tuning: Tuning = EVERYTHING,
) -> TrainState:
  """The state before the first step; no host or device ever holds it whole.

  Args:
    model, optimizer: as for `abstract_state`.
    abstract: what that returned.
    cursor: int [streams,C], where the data begin.
    seed: decides the parameters; the mesh does not.
    given: a part of the tree of parameters to take as they are; donated.
    tuning: what is trained.
  """

  def create(given):
    params = nn.unbox(_init_params(model, jax.random.key(seed)))
    params |= tuning.drawn(abstract.params, seed)
    params = unflatten_dict(flatten_dict(params) | flatten_dict(given))
    opt_state = optimizer.init(tuning.trained(params))
    step = jnp.zeros([], 'int32')
    return TrainState(step, params, opt_state, jnp.asarray(cursor, 'int32'))

  places = jax.tree.map(lambda x: x.sharding, abstract)
  create = jax.jit(create, out_shardings=places, donate_argnums=0)
  return create(given or {})
