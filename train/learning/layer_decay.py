"""Smaller learning rates for lower layers (ELECTRA, Clark et al. 2020, 3.1)."""

import jax
import optax
from flax.traverse_util import flatten_dict

from train.learning import lora
from train.learning.layers import Path, by_layer

_STACKS = {'encoder', 'decoder', 'generator'}


def layer_decay(decay: float, params: dict) -> optax.GradientTransformation:
  """Multiplies updates by decay^n, as in ELECTRA's published code.

  The head has n = 0, the top one of L layers n = 2, the lowest n = L + 1, and
  what the first layer reads (embeddings, their projection, relative biases) has
  n = L + 2. The last norm of a pre-norm stack, which ELECTRA does not have, has
  n = 1. Norms and biases have the n of their layer. The factor applies to the
  whole step, weight decay included.

  Args:
    decay: above 0, at most 1.
    params: shapes of what is trained.

  Raises:
    ValueError: the model has two stacks, for which no decay is published.
  """
  paths = [_own(path) for path in flatten_dict(params)]
  stacks = sorted({path[0] for path in paths} & _STACKS)
  if len(stacks) > 1:
    raise ValueError(
      f'tuning.layer_decay is {decay}, but the model has {len(stacks)} stacks '
      f'({", ".join(stacks)}): ELECTRA defines it for one. Set it to 0.'
    )

  def outside(path: Path, layers: int) -> float:
    path = _own(path)
    if path[0] not in ('embed', *_STACKS):
      return 1.0
    last_norm = path[0] in _STACKS and path[1] == 'norm'
    return decay if last_norm else decay ** (layers + 2)

  factors = by_layer(
    params,
    lambda layer, layers: (decay ** (layers + 1.0 - layer)).astype('float32'),
    outside,
  )
  return optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda x, factor: x * factor, updates, factors
    )
  )


def _own(path: Path) -> Path:
  """The path in the model; LoRA's factors have that of their matrix."""
  return path[1:] if path[0] == lora.KEY else path
