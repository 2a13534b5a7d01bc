"""What a traced function computes, equation by equation."""

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
