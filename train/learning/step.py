"""One step of training and one of evaluation, as pure functions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding
from ml_collections import ConfigDict

from configs.commands.command import UserError
from train.learning.criteria import Criterion, criterion_for
from train.learning.layers import in_layer
from train.learning.state import TrainState, moved
from train.learning.tokens import ADDED
from train.learning.tuning import EVERYTHING, Tuning
from train.parallel import compilation


class DoesNotFitError(UserError):
  """A step needs more memory than a device has."""


def train_step(
  state: TrainState,
  batch: dict[str, jax.Array],
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  schedule: Callable[[jax.Array], jax.Array],
  seed: int,
  accumulate: int = 1,
  accumulate_dtype: str = 'float32',
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
  loss_chunk: int = 0,
  tuning: Tuning = EVERYTHING,
  ema_decay: float = 0.0,
  dropout_until: int = 0,
  criterion: Criterion | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
  """state, batch -> state, metrics.

  The loss is the mean over all predicted tokens of the global batch, however
  many parts its gradient is accumulated over. Dropout depends on the seed, the
  step and the part.

  Args:
    state: donated by the caller.
    batch: global arrays; `cursor` [B,C] says where each row comes from, and
      `last_of` [B], if it is there, which stream's last row it is.
    model: from `models.build`.
    optimizer: from `optimizer.make_optimizer`.
    schedule: step -> learning rate, for the metrics.
    seed: the run's.
    accumulate: how many parts to cut the rows into; their gradients are
      computed one after the other.
    accumulate_dtype: of the sum of these gradients.
    z_loss, label_smoothing, max_logit_loss: see `losses`.
    loss_chunk: how many tokens of a row have logits in memory together; see
      models/logits.py.
    tuning: what is trained.
    ema_decay: of the parameters' moving average, in an AveragedState; see
      `state.moved`.
    dropout_until: the step from which on nothing is dropped; 0: none.
    criterion: what is minimised; None: that of the model's head.

  Returns:
    The new state, and the metrics: the criterion's means (`loss`, `accuracy`
    and more) and the `sums` they come from; `tokens`, without padding;
    `grad_norm` before clipping; `learning_rate`; `cursor`, the new state's.
  """
  batch = dict(batch)
  cursor, last_of = batch.pop('cursor'), batch.pop('last_of', None)
  rng = jax.random.fold_in(jax.random.key(seed), state.step)

  model = model.clone(loss_chunk=loss_chunk)
  criterion = criterion or criterion_for(model.config)
  weights = criterion.weights(batch)
  params = tuning.switched(state.params, state.step)
  trained, frozen = tuning.split(params)

  def gradients(model):
    def total(trained, part, rng):
      params = tuning.applied(tuning.join(trained, frozen))
      params = cast(params, model.config.dtype)
      sums = criterion.sums(
        model, params, part, rng, z_loss, label_smoothing, max_logit_loss
      )
      means = criterion.means(sums | weights)  # the part's share of them
      added = [means[name] for name in ADDED if name in means]
      return sum(added, means['loss']), sums

    gradient = jax.grad(total, has_aux=True)
    if accumulate == 1:
      return gradient(trained, batch, rng)
    return _accumulated(
      gradient, trained, batch, rng, accumulate, accumulate_dtype
    )

  grads, sums = _by_step(gradients, model, state.step, tuning, dropout_until)
  grads = tuning.thawed(grads, state.step)
  updates, opt_state = optimizer.update(grads, state.opt_state, trained)
  updates = tuning.thawed(updates, state.step)
  params = tuning.join(optax.apply_updates(trained, updates), frozen)
  now = place(state.cursor, cursor, last_of)
  new = state.replace(
    step=state.step + 1, params=params, opt_state=opt_state, cursor=now
  )
  if ema_decay:
    average = moved(state.average, new.params, state.step, ema_decay)
    new = new.replace(average=average)
  metrics = criterion.means(sums) | {
    'sums': sums,
    'tokens': _tokens(batch),
    'grad_norm': optax.global_norm(grads),
    'learning_rate': schedule(state.step),
    'cursor': now,
  }
  return new, metrics


def _by_step(gradients, model, step, tuning, dropout_until):
  """`gradients` of the model as it is at a step.

  Where it changes, both programs are compiled, and the step chooses one.
  """
  if tuning.stages > 1:  # each stage computes no more than it needs
    switch = tuning.switch
    before, after = (
      model.clone(learner=x) for x in ('generator', 'discriminator')
    )
  elif dropout_until:
    switch, before = dropout_until, model
    none = dict.fromkeys(('dropout', 'attention_dropout'), 0.0)
    after = model.clone(config=dataclasses.replace(model.config, **none))
  else:
    return gradients(model)
  return jax.lax.cond(
    step < switch, lambda: gradients(before), lambda: gradients(after)
  )


def place(
  before: jax.Array, cursor: jax.Array, last_of: jax.Array | None
) -> jax.Array:
  """The place of each stream after a batch: that of its last row, [streams,C].

  Args:
    before: [streams,C], the places before it.
    cursor: [B,C], where each row comes from.
    last_of: [B], which stream's last row each one is; None: streams have equal
      shares.
  """
  if last_of is None:  # equal shares of the batch, ordered by stream
    streams, numbers = before.shape
    return cursor.reshape(streams, -1, numbers)[:, -1]
  return before.at[last_of].set(cursor, mode='drop')


def _accumulated(gradient, trained, batch, rng, count, dtype):
  """What `gradient` returns for `count` parts of a batch, added up."""

  # Row i goes to part i mod count, so each device keeps its own rows.
  def split(x):
    x = x.reshape(x.shape[0] // count, count, *x.shape[1:])
    return x.swapaxes(0, 1)

  def add(carry, xs):
    index, part = xs
    new = gradient(trained, part, jax.random.fold_in(rng, index))
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, new), None

  parts = jax.tree.map(split, batch)
  first = jax.tree.map(lambda x: x[0], parts)
  grads, sums = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(gradient, trained, first, rng),
  )
  zeros = jax.tree.map(lambda x: x.astype(dtype), grads), sums
  (grads, sums), _ = jax.lax.scan(add, zeros, (jnp.arange(count), parts))
  return jax.tree.map(lambda x, p: x.astype(p.dtype), grads, trained), sums


def cast(params: dict, dtype: str) -> dict:
  """The kernels of the layers in the type that their products read.

  Each device casts its own part once. What is gathered, stacked and read again
  by the backward pass takes half the bytes, and so do the gradients of stacked
  layers. Norms, biases and tables stay as they are, and so do kernels that are
  narrower already: each layer casts its own.
  """
  size = jnp.dtype(dtype).itemsize
  flat = {
    path: x.astype(dtype)
    if path[-1] == 'kernel'
    and in_layer(path) is not None
    and x.dtype.itemsize >= size
    else x
    for path, x in flatten_dict(params).items()
  }
  return unflatten_dict(flat)


def _tokens(batch):
  """How many tokens are read or predicted, without padding."""
  return sum(
    jnp.sum(x > 0) for name, x in batch.items() if name.endswith('segments')
  )


def configured_step(
  config: ConfigDict,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  schedule: Callable[[jax.Array], jax.Array],
  tuning: Tuning = EVERYTHING,
  criterion: Criterion | None = None,
) -> Callable:
  """`train_step` with the config's settings: state, batch -> state, metrics."""
  return functools.partial(
    train_step,
    model=model,
    optimizer=optimizer,
    schedule=schedule,
    seed=config.seed,
    accumulate=config.train.accumulate,
    accumulate_dtype=config.train.accumulate_dtype,
    z_loss=config.train.z_loss,
    label_smoothing=config.train.label_smoothing,
    max_logit_loss=config.train.max_logit_loss,
    loss_chunk=config.train.loss_chunk,
    tuning=tuning,
    ema_decay=config.train.ema_decay,
    dropout_until=config.train.dropout_until,
    criterion=criterion,
  )


def eval_step(
  params: dict,
  batch: dict[str, jax.Array],
  *,
  model: nn.Module,
  loss_chunk: int = 0,
  byte_lengths: np.ndarray | None = None,
  criterion: Criterion | None = None,
) -> dict[str, jax.Array]:
  """The criterion's sums over a global batch, and `present` and `bytes`.

  `present` is how many tokens are not padding. `bytes` of the predicted text
  are counted if `byte_lengths`, int [V'] with V' <= V, says how many each id
  stands for.
  """
  model = model.clone(loss_chunk=loss_chunk)
  criterion = criterion or criterion_for(model.config)
  sums = criterion.sums(model, params, batch)
  sums['present'] = _tokens(batch)
  if byte_lengths is not None:
    lengths = jnp.asarray(byte_lengths, 'float32')[batch['targets']]
    sums['bytes'] = jnp.sum(lengths * batch['weights'])
  return sums


def compile_train_step(
  step: Callable,
  state: TrainState,
  batch: dict[str, jax.ShapeDtypeStruct],
  options: Mapping[str, str] | None = None,
) -> jax.stages.Compiled:
  """Compiles a step for the shardings of its arguments; it donates the state.

  `options` of the compiler replace those of `compilation.known`.

  Raises:
    ValueError: the compiler does not know an option, or its value.
    DoesNotFitError: the step needs more memory than a device has.
  """
  places = jax.tree.map(lambda x: x.sharding, state)
  mesh = jax.tree.leaves(places)[0].mesh
  everywhere = NamedSharding(mesh, jax.sharding.PartitionSpec())
  jitted = jax.jit(step, donate_argnums=0, out_shardings=(places, everywhere))
  options = dict(options or {})
  own = compilation.known(mesh) | options
  try:
    return jitted.lower(state, batch).compile(own or None)
  except jax.errors.JaxRuntimeError as error:
    first = str(error).splitlines()[0].partition(': ')[2]
    if options and ('compile option' in first or 'setting option' in first):
      raise ValueError(
        f'sharding.compiler_options: {first} Correct it, or set it in '
        "LIBTPU_INIT_ARGS (TPU) or XLA_FLAGS, with '--' before its name."
      ) from error
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    reason = str(error).splitlines()[0].partition('RESOURCE_EXHAUSTED: ')[2]
    raise DoesNotFitError(
      f'The training step does not fit the devices: {reason} Raise '
      "train.accumulate, lower data.batch, set model.remat='full', give "
      'sharding.mesh.fsdp more of the devices, or take more. `python -m '
      'train.fit` with the same --config says what takes the memory, and with '
      '--search what fits.'
    ) from error
