"""attend() equals plain attention, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.attention import attend


def plain(q, k, v, mask=None, bias=None, keep=None):
  """The formula, head by head; its gradients are autodiff's."""
  N, K = q.shape[2], k.shape[2]
  heads = []
  for n in range(N):
    m = n // (N // K)
    logits = q[:, :, n] @ k[:, :, m].swapaxes(1, 2)
    if bias is not None:
      logits = logits + bias[..., n, :, :]
    if mask is not None:
      logits = jnp.where(mask, logits, -1e30)
    weights = jax.nn.softmax(logits, axis=-1)
    if keep is not None:
      weights = weights * keep[:, n]
    heads.append(weights @ v[:, :, m])
  return jnp.stack(heads, axis=2)


@pytest.mark.parametrize('K', [1, 2, 6])
@pytest.mark.parametrize('bias', [None, 'shared', 'own'])
@pytest.mark.parametrize('dropped', [False, True])
def test_attend_equals_plain_attention(K, bias, dropped):
  B, T, S, N, H = 2, 5, 7, 6, 3
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), 'float32')

  args = [normal(B, T, N, H), normal(B, S, K, H), normal(B, S, K, H)]
  if bias:
    args.append(normal(*([] if bias == 'shared' else [B]), N, T, S))
  mask = jnp.asarray(rng.random((B, T, S)) < 0.7).at[:, :, 0].set(True)
  keep = jnp.asarray(rng.random((B, N, T, S)) < 0.6) if dropped else None
  probe = normal(B, T, N, H)

  def value(function, args):
    out = function(*args[:3], mask, *(args[3:] or [None]), keep)
    return jnp.sum(out * probe), out

  results = [
    jax.value_and_grad(value, argnums=1, has_aux=True)(f, args)
    for f in (attend, plain)
  ]
  for ours, truth in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(ours, truth, rtol=2e-4, atol=2e-5)
