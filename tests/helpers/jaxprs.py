"""What a traced function computes, equation by equation."""

import math
from collections.abc import Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
  """All equations of a jaxpr, those of loops and inner functions included.

  The body of a loop counts once. Of a function with a gradient of its own, the
  forward pass alone is seen, unless the gradient is what was traced.
  """
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      for inner in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(inner, jax.extend.core.ClosedJaxpr):
          yield from equations(inner.jaxpr)
        elif isinstance(inner, jax.extend.core.Jaxpr):
          yield from equations(inner)


def products(jaxpr: Any) -> int:
  """Floating-point operations of all matrix products, loops not repeated."""
  total = 0
  for equation in equations(jaxpr):
    if equation.primitive.name == 'dot_general':
      (summed, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      size = math.prod(equation.outvars[0].aval.shape)
      total += 2 * size * math.prod(shape[i] for i in summed)
  return total
