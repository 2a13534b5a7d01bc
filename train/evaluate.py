"""The held-out split, once, and its exact token-weighted means."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from train.objectives import lm_means


def evaluate(
  step: Callable[[Any, dict], dict[str, jax.Array]],
  params: Any,
  batches: Iterable[dict[str, jax.Array]],
  limit: int = 0,
  means: Callable[[dict], dict] = lm_means,
) -> dict[str, float]:
  """Means over all predicted tokens of the split.

  Args:
    step: params, batch -> sums with 'weight', from `step.eval_step`.
    params: of the model.
    batches: global batches; one without weight says that every host has read
      its share, so that all of them stop alike.
    limit: at most so many batches; 0: the whole split.
    means: of the objective: sums -> means.

  Returns:
    The objective's means, 'loss' and 'accuracy' among them, and 'tokens', how
    many were predicted.

  Raises:
    ValueError: the split has no token to predict.
  """
  totals = {'weight': 0.0}
  pending = None
  for number, batch in enumerate(batches):
    # The next batch is under way while the last one's sums are fetched.
    sums = step(params, batch) if not limit or number < limit else None
    if pending is not None:
      fetched = jax.device_get(pending)
      if not fetched['weight']:
        break
      for name, total in fetched.items():
        totals[name] = totals.get(name, 0.0) + float(total)
    if sums is None:
      break
    pending = sums
  if not totals['weight']:
    raise ValueError(
      'The evaluation split has no token to predict. Lower data.holdout (every '
      'holdout-th document is held out) or give eval.source.'
    )
  found = {name: float(x) for name, x in means(totals).items()}
  del found['z_loss']  # its factor belongs to training
  return found | {'tokens': int(totals['weight'])}
