"""From a batch to sums of losses and metrics."""

import flax.linen as nn
import jax

from train.losses import weighted_cross_entropy


def lm(
  model: nn.Module,
  params: dict,
  batch: dict[str, jax.Array],
  rng: jax.Array | None = None,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> dict[str, jax.Array]:
  """Prediction of `targets` where `weights` is not 0.

  Args:
    model: reads `model.INPUTS` of the batch, gives logits [B,T,V].
    params: of the model.
    batch: see the design's batch contract; `targets`, `weights` [B,T].
    rng: for dropout; None: no dropout.
    z_loss: factor of log_z^2.
    label_smoothing: see `losses.cross_entropy`.

  Returns:
    Sums over the batch: `loss`, `z_loss`, `correct`, `weight`.
  """
  logits = model.apply(
    {'params': params},
    **{name: batch[name] for name in model.INPUTS},
    rngs=None if rng is None else {'dropout': rng},
  )
  return weighted_cross_entropy(
    logits, batch['targets'], batch['weights'], z_loss, label_smoothing
  )
