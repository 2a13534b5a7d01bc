"""Cross-entropy over a vocabulary, in nats."""

import functools

import jax
import jax.numpy as jnp

from models.logits import ChunkedLogits


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def cross_entropy(
  logits: jax.Array, targets: jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """-sum_v q_v log p_v, for each token.

  q is 1 - label_smoothing on the target plus label_smoothing / V on every
  entry, the target's included (Szegedy et al. 2016, 7; Vaswani et al. 2017,
  5.4). The entropy of q is not subtracted, so the minimum is above 0.

  Args:
    logits: float32 [..., V]; V may be sharded.
    targets: int [...]; a target of V or more gives NaN.
    label_smoothing: at least 0, below 1.

  Returns:
    loss: float32 [...].
    log_z: float32 [...], the logarithm of the softmax's denominator.
    correct: bool [...], whether no logit exceeds the target's.
  """
  return _forward(logits, targets, label_smoothing)[0]


# Only the logits and log_z are kept for the backward pass, and the gradient is
# one elementwise pass over the logits. The forward pass looks the target up,
# the backward pass compares with it: there is never a one-hot array, nor, if V
# is sharded, an array of the whole logits.
def _forward(logits, targets, label_smoothing):
  highest = jnp.max(logits, axis=-1)
  total = jnp.sum(jnp.exp(logits - highest[..., None]), axis=-1)
  log_z = highest + jnp.log(total)
  picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  expected = picked
  if label_smoothing:
    mean = jnp.mean(logits, axis=-1)
    expected = (1 - label_smoothing) * picked + label_smoothing * mean
  outputs = log_z - expected, log_z, picked >= highest
  return outputs, (logits, targets, log_z)


def _backward(label_smoothing, saved, cotangents):
  logits, targets, log_z = saved
  d_loss, d_log_z = (jnp.expand_dims(x, -1) for x in cotangents[:2])
  V = logits.shape[-1]
  d_logits = (d_loss + d_log_z) * jnp.exp(logits - log_z[..., None])
  if label_smoothing:
    d_logits -= d_loss * (label_smoothing / V)
  hit = targets[..., None] == jnp.arange(V)
  d_logits -= jnp.where(hit, (1 - label_smoothing) * d_loss, 0)
  return d_logits, None


cross_entropy.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def chunked_cross_entropy(
  logits: ChunkedLogits,
  targets: jax.Array,
  label_smoothing: float,
  with_highest: bool,
) -> tuple[jax.Array, ...]:
  """`cross_entropy` and, if asked for, each token's largest logit.

  The backward pass computes the logits again: they are never there whole.
  """
  return _chunked_forward(logits, targets, label_smoothing, with_highest)[0]


def _chunked_forward(logits, targets, label_smoothing, with_highest):
  def outputs(logits, targets):
    found = _forward(logits, targets, label_smoothing)[0]
    return (*found, _highest(logits)) if with_highest else found

  found = logits.map(outputs, targets)
  return found, (logits, targets, found[1])


def _chunked_backward(label_smoothing, with_highest, saved, cotangents):
  logits, *arrays = saved

  def gradient(logits, targets, log_z, d_loss, d_log_z, *d_highest):
    saved, above = (logits, targets, log_z), (d_loss, d_log_z, None)
    d_logits, _ = _backward(label_smoothing, saved, above)
    if with_highest:
      _, back = jax.vjp(_highest, logits)
      d_logits += back(*d_highest)[0]
    return d_logits

  d_loss, d_log_z, _, *d_highest = cotangents
  arrays = *arrays, d_loss, d_log_z, *d_highest
  return logits.gradient(gradient, *arrays), None


def _highest(logits):
  return jnp.max(logits, axis=-1)


chunked_cross_entropy.defvjp(_chunked_forward, _chunked_backward)


def token_losses(
  logits: jax.Array | ChunkedLogits, targets: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`cross_entropy` of logits [B,T,V], or of what computes them by chunks."""
  if isinstance(logits, ChunkedLogits):
    return chunked_cross_entropy(logits, targets, 0.0, False)
  return cross_entropy(logits.astype(jnp.float32), targets)


def weighted_cross_entropy(
  logits: jax.Array | ChunkedLogits,
  targets: jax.Array,
  weights: jax.Array,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
  max_logit_loss: float = 0.0,
) -> dict[str, jax.Array]:
  """Sums over a batch; the caller adds up batches and divides by `weight`.

  Args:
    logits: [B,T,V], or what computes them chunk by chunk.
    targets: int [B,T].
    weights: float32 [B,T], 0 where there is nothing to predict.
    z_loss: factor of log_z^2, which keeps log_z near 0 (T5: 1e-4).
    label_smoothing: see `cross_entropy`.
    max_logit_loss: factor of half the square of each token's largest logit. Its
      gradient is that logit: L2Wrap (RWKV's published code: 1e-4). Logits that
      tie share it.

  Returns:
    float32 scalars: `loss` (cross-entropy alone), `z_loss` and
    `max_logit_loss` (times their factors; the latter only if its factor is not
    0), `correct`, `weight`. Training minimises the sum of the three losses.
  """
  with_highest = bool(max_logit_loss)
  if isinstance(logits, ChunkedLogits):
    found = chunked_cross_entropy(
      logits, targets, label_smoothing, with_highest
    )
  else:
    logits = logits.astype(jnp.float32)
    found = cross_entropy(logits, targets, label_smoothing)
    found = (*found, _highest(logits)) if with_highest else found
  loss, log_z, correct, *highest = found
  sums = {}
  if max_logit_loss:
    squared = jnp.square(highest[0])
    sums['max_logit_loss'] = max_logit_loss / 2 * jnp.sum(weights * squared)
  return sums | {
    'loss': jnp.sum(weights * loss),
    'z_loss': z_loss * jnp.sum(weights * jnp.square(log_z)),
    'correct': jnp.sum(weights * correct),
    'weight': jnp.sum(weights),
  }
