"""Programs that write: compiled once for each shape, kept for the process."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models import beams, decoding
from models.sampling import Sampling
from train.parallel import compilation


class Fixed(NamedTuple):
  """What programs are compiled for."""

  model: nn.Module
  eos: int
  start: int
  vocabulary: int
  mesh: Mesh | None

  def whole(self, *arrays: jax.Array) -> list[jax.Array]:
    """Arrays that every host has whole."""
    if self.mesh is None:
      return list(arrays)
    place = NamedSharding(self.mesh, PartitionSpec())
    return [jax.lax.with_sharding_constraint(x, place) for x in arrays]

  def jit(self, function: Callable, **how: Any) -> Callable:
    """`jax.jit` for its mesh."""
    return compilation.jit(function, self.mesh, **how)


@functools.cache
def stepwise(fixed: Fixed, how: Sampling) -> tuple[Callable, Callable]:
  """`decoding.begin` and `advance`, compiled once for each shape."""
  own = {
    'model': fixed.model,
    'eos': fixed.eos,
    'vocabulary': fixed.vocabulary,
    'how': how,
  }

  def kept(state):
    return decoding.State(*fixed.whole(*state[:4]), *state[4:])

  def begin(params, source, segments, numbers, seed, *, length, copies):
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    prompts = fold(jax.random.key(seed), numbers)
    rngs = jax.vmap(fold, (0, None))(prompts, np.arange(copies)).reshape(-1)
    return kept(
      decoding.begin(
        params, source, segments, rngs, length=length, start=fixed.start,
        copies=copies, **own,
      )
    )  # fmt: skip

  def advance(params, state, until):
    return kept(decoding.advance(params, state, until, **own))

  return (
    fixed.jit(begin, static_argnames=('length', 'copies')),
    fixed.jit(advance, donate_argnums=1),
  )


@functools.cache
def searching(fixed: Fixed, count: int, penalty: float) -> Callable:
  """`beams.beam_search`, compiled once for each shape."""

  def search(params, source, segments, until, *, length, minimum):
    return fixed.whole(
      *beams.beam_search(
        params, source, segments, model=fixed.model, length=length,
        eos=fixed.eos, beams=count, start=fixed.start,
        vocabulary=fixed.vocabulary, penalty=penalty, gnmt=True,
        minimum=minimum, until=until,
      )
    )  # fmt: skip

  return fixed.jit(search, static_argnames=('length', 'minimum'))
