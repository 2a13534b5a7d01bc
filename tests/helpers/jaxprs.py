"""What a traced function computes, equation by equation."""

import math
from collections.abc import Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
  """All equations of a jaxpr, including those of loops and inner functions.

  The body of a loop counts once. A function with its own gradient yields its
  forward pass alone, unless the gradient is what was traced.
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
  """Floating-point operations of all matrix products; a loop counts once."""
  total = 0
  for equation in equations(jaxpr):
    if equation.primitive.name == 'dot_general':
      (summed, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      size = math.prod(equation.outvars[0].aval.shape)
      total += 2 * size * math.prod(shape[i] for i in summed)
  return total
