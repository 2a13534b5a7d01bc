"""LSTMs on the layers of an encoder that stays as it is, or on a decoder.

Devlin et al. 2019, 5.3: features of some layers go into two layers of a
bidirectional LSTM (Hochreiter and Schmidhuber 1997), then into the classifier.
5.1: a left-to-right model has one on its last layer, and both are trained.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.layers import linear
from models.sharding import named

LAYERS = 2
LAST = 4  # layers of the features that name the last ones


class Features(nn.Module):
  """What of the layers is read, by `model.features` (table 7).

  A weighted sum has a softmax of learned numbers, as in ELMo; the paper does
  not say which. A model with fewer than four layers gives all of them.
  """

  config: TransformerConfig

  @nn.compact
  def __call__(self, states: jax.Array) -> jax.Array:
    """[1+L,B,T,D], the embeddings and each layer's output -> [B,T,I]."""
    layers = states[1:]
    match self.config.features:
      case 'embeddings':
        return states[0]
      case 'second_to_last':
        return states[-2]
      case 'last':
        return states[-1]
      case 'concat_last_four':
        return jnp.concatenate([*layers[-LAST:]], axis=-1)
      case 'sum_last_four':
        layers = layers[-LAST:]
    zeros = named(nn.initializers.zeros, 'norm')
    weights = self.param('weights', zeros, (len(layers),), 'float32')
    return jnp.einsum('LBTD,L->BTD', layers, jax.nn.softmax(weights))


class Lstm(nn.Module):
  """One layer in one direction: [B,T,I] -> [B,T,H].

  Gates i, f, o and candidate g of x W + h U + b: c = f c + i g, h = o tanh(c).
  Padding leaves both as they are. Weights begin uniform in +-H^-1/2.
  """

  width: int  # H
  backward: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
    """`there` is bool [B,T], False at padding."""
    H, bound = self.width, self.width**-0.5

    def uniform(rng, shape, dtype):
      return jax.random.uniform(rng, shape, dtype, -bound, bound)

    def weight(name, rows, *axes):
      init = named(uniform, *axes)
      return self.param(name, init, (*rows, 4 * H), 'float32')

    inputs = weight('input', (x.shape[-1],), 'embed', 'hidden')
    state = weight('state', (H,), 'hidden', 'hidden')
    gates = linear(x.astype('float32'), inputs) + weight('bias', (), 'hidden')

    def step(carry, now):
      h, c = carry
      gates, here = now
      i, f, g, o = jnp.split(gates + linear(h, state), 4, axis=-1)
      new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
      new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
      h = jnp.where(here[:, None], new_h, h)
      return (h, jnp.where(here[:, None], new_c, c)), h

    zeros = jnp.zeros((x.shape[0], H), 'float32')
    first = jnp.moveaxis(gates, 1, 0), there.T
    _, found = jax.lax.scan(step, (zeros, zeros), first, reverse=self.backward)
    return jnp.moveaxis(found, 0, 1)


class BiLstm(nn.Module):
  """Layers of two LSTMs each, one in either direction: [B,T,I] -> [B,T,2H]."""

  width: int  # H

  @nn.compact
  def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
    for n in range(LAYERS):
      both = [
        Lstm(self.width, backward, name=f'{name}_{n}')(x, there)
        for name, backward in (('forward', False), ('backward', True))
      ]
      x = jnp.concatenate(both, axis=-1)
    return x
