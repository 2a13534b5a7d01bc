"""Rates of the weights of a wider model, so that a narrow one's rate fits it.

models/mup.py has the idea, and the other half: initialisation and multipliers.
"""

from typing import Any

import jax
import optax

from train.learning.axes import Names, is_names, own

# Axes that grow with the model's width. The others ('vocab', 'positions',
# 'types', 'buckets', 'classes', 'head_dim', ...) stay as they are.
WIDTHS = {'embed', 'mlp', 'heads', 'kv_heads', 'hidden', 'table'}


def is_hidden(names: Names) -> bool:
  """Whether a weight maps a width to a width, as most kernels do.

  The others are input-like (tables: one width, which they make), output-like
  (logits, classes: one width, which they read) or vectors.

  >>> is_hidden(('layers', 'embed', 'mlp')), is_hidden(('vocab', 'embed'))
  (True, False)
  """
  kept = [names[i] for i in own(names)]
  return len(kept) == 2 and WIDTHS.issuperset(kept)


def slower(axes: Any, widening: float, relative: Any = False) -> Any:
  """Factors of the steps of Adam and its kind, a tree like the parameters.

  They are 1 / m for hidden weights, m the `widening`, and 1 for all others
  (Yang et al. 2022, table 8). Where steps are `relative` to the root mean
  square of the weight itself (Adafactor, LAMB), which falls by m^-1/2 already,
  they are m^-1/2.

  Args:
    axes: a tuple of names for each parameter.
    widening: how many times wider the model is than its base.
    relative: a bool, or a tree of them like the parameters.
  """
  if isinstance(relative, bool):
    relative = jax.tree.map(lambda _: relative, axes, is_leaf=is_names)

  def factor(names, is_relative):
    if not is_hidden(names):
      return 1.0
    return widening ** (-0.5 if is_relative else -1.0)

  return jax.tree.map(factor, axes, relative, is_leaf=is_names)


def times(
  inner: optax.GradientTransformation, factors: Any
) -> optax.GradientTransformation:
  """`inner`, whose updates are multiplied; its state stays what it is."""
  if all(factor == 1 for factor in jax.tree.leaves(factors)):
    return inner

  def update(grads, state, params=None):
    updates, state = inner.update(grads, state, params)
    return jax.tree.map(lambda x, f: x * f, updates, factors), state

  return optax.GradientTransformation(inner.init, update)
