"""Which parameters are trained: the config group `tuning`.

  all         every parameter
  lora        low-rank factors of chosen matrices (lora.py)
  adapters    small layers after each MLP (model.adapter_dim) and all norms:
              Houlsby et al. 2019; T5 (Raffel et al. 2020, 3.5.1, table 10)
  head        only what is on top of the trunk
  unfreezing  the top layer first, then one more layer at a time (T5, 3.5.1)
  two_stage   ELECTRA (Clark et al. 2020, 3.2): half of the steps train the
              generator alone. Then the discriminator begins with its weights,
              and learns while the generator is frozen. Each stage has the
              whole schedule of rates, which is our choice

With `lora` and `adapters` a task's head is trained too. A language model's
output projection and its transform ('vocabulary') stay frozen.

Frozen weights have no gradient and no optimizer state, but are in the
checkpoint. With `tuning.base_dtype` their matrices and tables are kept in
bfloat16; what is trained is always float32. With `unfreezing` and `two_stage`
every weight always has both.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from models.families.electra import GENERATOR
from train.learning import lora, tuning_checks
from train.learning.axes import decays
from train.learning.layers import by_layer

TRUNK = 'embed', 'encoder', 'decoder', 'generator', 'generator_embed'
LOW_RANK = *TRUNK, 'vocabulary'  # whose matrices LoRA can change
ADAPTER = 'adapter'  # of models/block.py
_LORA_STREAM = 1  # of the seed; the model's weights use the seed itself


@dataclasses.dataclass(frozen=True)
class Tuning:
  """Which parameters are trained. Trees of parameters are nested dicts.

  The model's tree has the model's parameters; the state's tree has LoRA's
  factors beside them.

  Attributes:
    train: of CHOICES.
    rank, alpha, matrices: of LoRA.
    steps: of the run.
    base_dtype: of the frozen matrices and tables; '': float32.
  """

  train: str = 'all'
  rank: int = 0
  alpha: float = 0.0
  matrices: tuple[str, ...] = ()
  steps: int = 0
  base_dtype: str = ''

  @property
  def stages(self) -> int:
    """Into how many equal parts the steps are cut, each with its schedule."""
    return 2 if self.train == 'two_stage' else 1

  @property
  def switch(self) -> int:
    """The step before which the second stage begins."""
    return self.steps // 2

  @property
  def parts(self) -> list[tuple[int, int, str]]:
    """(step before the first one, last step, what learns) of each stage."""
    if self.stages == 1:
      return [(0, self.steps, '')]
    first, second = (0, self.switch), (self.switch, self.steps)
    return [(*first, 'generator'), (*second, 'discriminator')]

  def extended(self, params: dict, axes: dict) -> tuple[dict, dict]:
    """Shapes and axis names of the model's tree -> of the state's.

    Raises:
      ValueError: the model lacks a chosen matrix, or nothing is trained.
    """
    if self.train == 'lora':
      shapes, names = lora.factors(
        params, axes, LOW_RANK, self.matrices, self.rank
      )
      params, axes = params | {lora.KEY: shapes}, axes | {lora.KEY: names}
    if not self.trained(params):
      raise ValueError(
        f'tuning.train={self.train!r} trains nothing: the model has no such '
        f'parameters. It has {", ".join(params)}.'
      )
    return self._narrowed(params, axes), axes

  def _narrowed(self, shapes, axes):
    """The shapes, with the types that the state keeps them in."""
    if not self.base_dtype:
      return shapes
    names, flat = flatten_dict(axes), flatten_dict(shapes)
    for path, x in flat.items():
      if not self.is_trained(path) and decays(names[path], 'matrices'):
        flat[path] = jax.ShapeDtypeStruct(x.shape, self.base_dtype)
    return unflatten_dict(flat)

  def drawn(self, shapes: dict, seed: int) -> dict:
    """New values for what only the state's tree has: LoRA's factors.

    Args:
      shapes: of the state's tree.
      seed: the run's.
    """
    if self.train != 'lora':
      return {}
    rng = jax.random.fold_in(jax.random.key(seed), _LORA_STREAM)
    return {lora.KEY: lora.draw(shapes[lora.KEY], rng)}

  def is_trained(self, path: tuple[str, ...]) -> bool:
    """Whether the parameter at a path of the state's tree is trained."""
    match self.train:
      case 'head':
        return path[0] not in TRUNK
      case 'lora':
        return path[0] == lora.KEY or _of_task(path)
      case 'adapters':
        norm = len(path) > 1 and path[-2].endswith('norm')
        return norm or ADAPTER in path or _of_task(path)
    return True

  def trained(self, tree: dict) -> dict:
    """The part of a tree like the state's that is trained."""
    return self.split(tree)[0]

  def split(self, params: dict) -> tuple[dict, dict]:
    """The state's tree -> what is trained, and what is frozen."""
    if self.train in ('all', 'unfreezing', 'two_stage'):
      return params, {}
    parts = {}, {}
    for path, x in flatten_dict(params).items():
      parts[not self.is_trained(path)][path] = x
    return unflatten_dict(parts[0]), unflatten_dict(parts[1])

  def join(self, trained: dict, frozen: dict) -> dict:
    """The state's tree, from its two parts."""
    if not frozen:
      return trained
    return unflatten_dict(flatten_dict(frozen) | flatten_dict(trained))

  def merged(self, params: dict) -> dict:
    """The state's tree -> the model's, with LoRA's factors merged into it."""
    if self.train != 'lora':
      return params
    return lora.merge(params, self.alpha / self.rank)

  def applied(self, params: dict) -> dict:
    """The state's tree -> what the model is applied to.

    As `merged`; but with a base in bfloat16 layers get their factors as they
    are: see `lora`.
    """
    if self.train == 'lora' and self.base_dtype:
      return lora.attach(params, self.alpha / self.rank)
    return self.merged(params)

  def switched(self, params: dict, step: jax.Array) -> dict:
    """The state's tree, before the update that is made at a step.

    Where the second stage begins, the discriminator takes the generator's
    weights.
    """
    if self.train != 'two_stage':
      return params
    now = step == self.switch

    def taken(name, source):
      return jax.tree.map(
        lambda own, x: jnp.where(now, x, own), params[name], params[source]
      )

    return params | {
      'embed': taken('embed', 'generator_embed'),
      'encoder': taken('encoder', 'generator'),
    }

  def thawed(self, tree: dict, step: jax.Array) -> dict:
    """Gradients or updates, set to 0 for weights that are frozen at a step.

    Layer l of L is trained after (L - 1 - l) / L of all steps: the top one from
    the start, the lowest in the last L-th. Encoder and decoder are unfrozen in
    parallel. Parameters outside the layers are always trained: T5 says so of
    the embeddings, and does not mention the last norms, which are on top, and
    the relative biases, which all layers share.

    In the first of two stages the generator is trained, in the second the
    discriminator.
    """
    if self.train == 'two_stage':
      first = step < self.switch
      on = {name: (name in GENERATOR) == first for name in tree}
      return {
        name: jax.tree.map(lambda x, on=on[name]: jnp.where(on, x, 0), part)
        for name, part in tree.items()
      }
    if self.train != 'unfreezing':
      return tree

    def inside(layer, layers):
      first = -(-(layers - 1 - layer) * self.steps // layers)  # rounded up
      return jnp.asarray(step >= first)

    on = by_layer(tree, inside, lambda path, layers: np.array(True))
    return jax.tree.map(lambda x, on: jnp.where(on, x, 0), tree, on)

  def describe(self, params: dict) -> str:
    """A line about what is trained; '' if everything always is.

    Args:
      params: arrays or shapes of the state's tree.
    """
    if self.train == 'all':
      return ''
    sizes = [
      sum(x.size for x in jax.tree.leaves(tree)) for tree in self.split(params)
    ]
    counts = f'{sizes[0]:,} of {sum(sizes):,} parameters'
    if self.train == 'unfreezing':
      return f'tuning.train=unfreezing: {counts}, from the top layer down.'
    if self.train == 'two_stage':
      return (
        f'tuning.train=two_stage: {self.switch:,} steps train the generator, '
        'and as many the discriminator, which begins with its weights.'
      )
    heads = sorted({p for p in params if _of_task((p,))})
    more = f' The head is trained too: {", ".join(heads)}.' if heads else ''
    if self.train == 'head':
      more = f' They are {", ".join(p for p in params if p not in TRUNK)}.'
    kept = f' Frozen matrices are kept in {self.base_dtype}.'
    kept *= bool(self.base_dtype)
    return f'tuning.train={self.train}: {counts} are trained.{more}{kept}'


EVERYTHING = Tuning()


def make_tuning(config: ConfigDict) -> Tuning:
  """The Tuning of a config.

  Raises:
    ValueError: an unknown choice, a missing key or an ignored one.
  """
  tuning_checks.check(config)
  group = config.tuning
  return Tuning(
    group.train,
    group.rank,
    group.alpha,
    tuple(group.matrices),
    config.train.steps,
    group.base_dtype,
  )


def is_added(path: tuple[str, ...]) -> bool:
  """Whether a parameter exists only for tuning: LoRA's or an adapter's."""
  return path[0] == lora.KEY or ADAPTER in path


def _of_task(path: tuple[str, ...]) -> bool:
  """Whether a parameter belongs to a task's head."""
  return path[0] not in (*TRUNK, 'vocabulary', lora.KEY)
