"""The state that training carries from step to step, made on the mesh."""

import functools
import math
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

  @property
  def evaluated(self) -> Any:
    """The parameters that evaluations use."""
    return self.params

  def beginning(self, params: Any) -> 'TrainState':
    """The state before the first step, with other parameters."""
    return self.replace(params=params)


class AveragedState(TrainState):
  """With the moving average of the parameters (`train.ema_decay`)."""

  average: Any  # a tree like the parameters

  @property
  def evaluated(self) -> Any:
    return self.average

  def beginning(self, params: Any) -> TrainState:
    # A copy: the step gives up both, and no buffer can be given up twice.
    return self.replace(params=params, average=jax.tree.map(jnp.copy, params))


class AdaptedState(TrainState):
  """With what the coefficient of KL is multiplied by (`align.kl_target`)."""

  kl_factor: Any  # float32 []

  def beginning(self, params: Any) -> TrainState:
    return self.replace(params=params, kl_factor=jnp.ones([], 'float32'))


def moved(average: Any, params: Any, step: jax.Array, decay: float) -> Any:
  """The moving average of the parameters after an update.

  It is decay * average + (1 - decay) * params, beginning with zeros and divided
  by 1 - decay^n after n updates (Kingma & Ba 2015, 7.2): the mean of all
  parameters so far, with weights that sum to 1. The first parameters have none.

  Args:
    average, params: trees; of the update before, and of this one.
    step: int32 []; the updates before this one.
    decay: of the average.
  """
  n = step.astype('float32') + 1
  # What is kept is divided already, so the share of the new ones is larger than
  # 1 - decay at first: 1 after one update.
  share = (1 - decay) / -jnp.expm1(n * math.log(decay))
  return jax.tree.map(lambda x, new: x + share * (new - x), average, params)


def _init_params(model: nn.Module, rng: jax.Array) -> Any:
  """Boxed parameters. Batch and length do not matter: 1 x 1 will do."""
  inputs = {name: jnp.zeros((1, 1), 'int32') for name in model.INPUTS}
  if width := model.config.input_dim:
    inputs['inputs'] = jnp.zeros((1, 1, width), 'float32')
  return model.init(rng, **inputs)['params']


@functools.lru_cache(maxsize=16)
def abstract_params(model: nn.Module) -> tuple[Any, Any]:
  """Shapes and logical axis names of a model's parameters; computes nothing.

  Two trees: of ShapeDtypeStruct, and of tuples with a name per dimension. They
  are traced once for each model: callers must not change them.
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
  averaged: bool = False,
  optimizer_rules: sharding.Rules | None = None,
  adapted: bool = False,
) -> TrainState:
  """The state's shapes with their shardings: a tree of ShapeDtypeStruct.

  It is an AveragedState if it is to be `averaged`, or an AdaptedState if it is
  to be `adapted`. `optimizer_rules` are those of the optimizer's state, if they
  differ from `rules`. Raises ValueError if a weight has a name that no rule
  knows, or the mesh does not divide it.
  """
  params, names = tuning.extended(*abstract_params(model))
  opt_state = jax.eval_shape(optimizer.init, tuning.trained(params))
  step = jax.ShapeDtypeStruct((), 'int32')
  cursor = jax.ShapeDtypeStruct(cursor_shape, 'int32')
  state = TrainState(step, params, opt_state, cursor)
  opt_axes = state_axes(opt_state, tuning.trained(names))
  axes = TrainState((), names, opt_axes, ('streams', 'place'))
  if averaged:
    state, axes = (
      AveragedState(**vars(x), average=x.params) for x in (state, axes)
    )
  if adapted:
    factor = jax.ShapeDtypeStruct((), 'float32')
    state = AdaptedState(**vars(state), kl_factor=factor)
    axes = AdaptedState(**vars(axes), kl_factor=())
  rules = (*rules, ('streams', None), ('place', None))
  places = sharding.shardings(mesh, rules, axes, state)
  if optimizer_rules:
    own = sharding.shardings(mesh, optimizer_rules, opt_axes, opt_state)
    places = places.replace(opt_state=own)
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


def as_kept(params: Any, abstract: Any) -> Any:
  """Parameters in the types that the state keeps them in: `abstract`'s."""
  return jax.tree.map(lambda x, kept: x.astype(kept.dtype), params, abstract)


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
    params = as_kept(params, abstract.params)
    opt_state = optimizer.init(tuning.trained(params))
    step = jnp.zeros([], 'int32')
    cursor_here = jnp.asarray(cursor, 'int32')
    return abstract.replace(
      step=step, opt_state=opt_state, cursor=cursor_here
    ).beginning(params)

  places = jax.tree.map(lambda x: x.sharding, abstract)
  create = jax.jit(create, out_shardings=places, donate_argnums=0)
  return create(given or {})
