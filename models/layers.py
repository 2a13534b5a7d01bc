"""What every model is made of: Dense, Norm, Dropout, Mlp."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import mup
from models.config import TransformerConfig
from models.sharding import Initializer, gathered, named, shard


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def linear(
  x: jax.Array, kernel: jax.Array, dtype: str | None = None
) -> jax.Array:
  """x W: [..., I], [I, O] -> [..., O], in `dtype` or in that of x.

  The gradient of W is a product that has to transpose x or dy. Autodiff always
  transposes dy; this function transposes the narrower one. On a CPU the
  gradient of a layer from 512 to 2048 then takes three quarters of the time.
  """
  return jnp.dot(x, kernel, preferred_element_type=dtype)


def _linear_forward(x, kernel, dtype):
  y = jnp.dot(x, kernel, preferred_element_type=dtype)
  return y, (x, kernel)


def _linear_backward(dtype, saved, dy):
  x, kernel = saved
  dy = dy.astype(x.dtype)
  dx = jnp.einsum('...O,IO->...I', dy, kernel)
  if x.shape[-1] <= dy.shape[-1]:
    return dx, jnp.einsum('...I,...O->IO', x, dy)
  return dx, jnp.einsum('...O,...I->OI', dy, x).T


linear.defvjp(_linear_forward, _linear_backward)


def initializer(config: TransformerConfig, role: str) -> Initializer:
  """The initializer that `model.init` gives a weight of some role.

  Roles: 'table' (tokens, types), 'position' (learned positions), 'query',
  'attention' (keys, values), 'attention_output', 'mlp', 'mlp_output', 'output'
  (of a head: logits, classes), 'transform' (what a head has before that),
  'projection' (from the tables' width to the model's), 'replaced' (ELECTRA's
  last layer), 'input' (of vectors in place of tokens). Biases start at 0,
  scales at 1. With `model.base_dim` it is muP's.
  """
  return mup.adjusted(config, role, _initializer(config, role))


def _initializer(c, role):
  normal = nn.initializers.normal(c.init_std)
  scaling = nn.initializers.variance_scaling
  if role == 'input':  # Garg et al.'s code: PyTorch's default, U(+-I^-1/2)
    return scaling(1 / 3, 'fan_in', 'uniform')
  match c.init:
    case 't5':  # Mesh TensorFlow's and T5X's
      match role:
        case 'table' | 'position':
          return nn.initializers.normal(1.0)
        case 'query':  # T5 scales no logits: the kernel is sqrt(H) smaller
          scale = c.embed_dim if c.scale_attention else c.embed_dim * c.head_dim
          return nn.initializers.normal(scale**-0.5)
        case 'attention' | 'attention_output' | 'projection':
          return scaling(1.0, 'fan_in', 'normal')
      return scaling(1.0, 'fan_in', 'truncated_normal')
    case 'fan_in':  # PaLM (Chowdhery et al. 2022, 5)
      if role in ('table', 'position'):
        return nn.initializers.normal(1.0)
      return scaling(1.0, 'fan_in', 'normal')
    case 'glorot':
      if role in ('table', 'position'):
        return nn.initializers.normal(c.table_width**-0.5)
      return nn.initializers.glorot_uniform()
    case 'truncated_normal':  # BERT: cut at two standard deviations
      if role in ('projection', 'replaced'):  # ELECTRA: TensorFlow's default
        return nn.initializers.glorot_uniform()
      return nn.initializers.truncated_normal(c.init_std)
    case 'gpt2' | 'megatron':  # Radford et al. 2019, 2.3
      layers = c.encoder_layers + c.decoder_layers
      if role in ('attention_output', 'mlp_output'):
        return nn.initializers.normal(c.init_std / (2 * layers) ** 0.5)
      if role == 'position' and c.init == 'gpt2':
        return nn.initializers.normal(c.init_std / 2)  # the released code
      return normal
    case 'normal':
      return normal
    case 'rwkv':  # the released code; the rest of it is in families/rwkv.py
      if role == 'table':  # small, since a norm follows (Peng et al. 2023, 3.4)
        return lambda key, shape, dtype: jax.random.uniform(
          key, shape, dtype, -1e-4, 1e-4
        )
      if role == 'output':
        return orthogonal(0.5)
  raise ValueError(f'model.init={c.init!r} has no initializer for {role!r}.')


def orthogonal(gain: float = 1.0) -> Initializer:
  """Orthogonal rows or columns, times (O / I)^1/2 if there are more outputs."""

  def init(key, shape, dtype):
    scale = gain * max(1, shape[-1] / shape[-2]) ** 0.5
    return nn.initializers.orthogonal(scale)(key, shape, dtype)

  return init


class Dense(nn.Module):
  """x W + b over the last dimension: [..., I] -> [..., O]; float32 weights.

  Parameters `a` [I,R] and `b` [R,O], if there are any beside the kernel, add
  x A B: the low-rank change of a frozen W (Hu et al. 2021, 4.1). The module
  never makes them.
  """

  features: int
  axes: tuple[str, str]
  kernel_init: Initializer
  dtype: str
  bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1], self.features)
    init = named(self.kernel_init, *self.axes)
    kernel = self.param('kernel', init, shape, 'float32')
    kernel = gathered(kernel.astype(self.dtype), self.axes)
    x = x.astype(self.dtype)
    y = linear(x, kernel)
    if self.has_variable('params', 'a'):
      for name, axes in (
        ('a', (self.axes[0], 'rank')),
        ('b', ('rank', self.axes[1])),
      ):
        factor = self.get_variable('params', name).astype(self.dtype)
        x = linear(x, gathered(factor, axes))
      y = y + x
    if self.bias:
      # A bias of the model's width is small enough to be on every device.
      axis = 'norm' if self.axes[1] == 'embed' else self.axes[1]
      zeros = named(nn.initializers.zeros, axis)
      bias = self.param('bias', zeros, shape[1:], 'float32')
      y = y + bias.astype(self.dtype)
    return y


class Norm(nn.Module):
  """Normalises the last dimension, in float32; returns `model.dtype`.

  layer_norm (Ba et al. 2016): (x - mean) / sqrt(variance + epsilon) * scale +
  bias; layer_norm_no_bias without the bias (PaLM); rms_norm (Zhang & Sennrich
  2019): x / sqrt(mean(x^2) + epsilon) * scale.
  """

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = self.config
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    scale = self.param('scale', named(ones, 'norm'), x.shape[-1:], 'float32')
    bias = None
    if c.norm == 'layer_norm':
      bias = self.param('bias', named(zeros, 'norm'), x.shape[-1:], 'float32')
    kind = c.norm != 'rms_norm', c.norm_epsilon, c.dtype
    return normalize(x, scale, bias, kind)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalize(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array | None,
  kind: tuple[bool, float, str],
) -> jax.Array:
  """What `Norm` computes, of x [...,D] with scale and bias [D].

  `kind` has whether the mean is subtracted, epsilon, and the dtype of what is
  returned. The backward pass needs x alone, in its own dtype; autodiff would
  keep three float32 arrays of its shape.
  """
  y = _normal(x, kind)[0] * scale
  return (y if bias is None else y + bias).astype(kind[2])


def _normal(x, kind):
  """x in float32 with mean square 1, and what it was multiplied by."""
  centred, epsilon, _ = kind
  x = x.astype('float32')
  if centred:
    x = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  factor = jax.lax.rsqrt(variance + epsilon)
  return x * factor, factor


def _normalize_forward(x, scale, bias, kind):
  return normalize(x, scale, bias, kind), (x, scale, bias)


def _normalize_backward(kind, saved, dy):
  x, scale, bias = saved
  normal, factor = _normal(x, kind)
  dy = dy.astype('float32')
  rows = tuple(range(x.ndim - 1))
  d_scale = jnp.sum(dy * normal, rows)
  d_bias = None if bias is None else jnp.sum(dy, rows)
  dy = dy * scale
  d_x = dy - normal * jnp.mean(dy * normal, axis=-1, keepdims=True)
  if kind[0]:
    d_x -= jnp.mean(dy, axis=-1, keepdims=True)
  return (factor * d_x).astype(x.dtype), d_scale, d_bias


normalize.defvjp(_normalize_forward, _normalize_backward)


class Dropout(nn.Module):
  """Drops with probability `rate` if the caller passes a 'dropout' rng.

  Along the dimensions `broadcast` one mask is shared. `model.dropout_kind` 't5'
  drops a feature at every position of a sequence, and a key for every query
  (Mesh TensorFlow, T5X); 'residual' drops each entry independently.
  """

  rate: float
  broadcast: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if not self.rate or not self.has_rng('dropout'):
      return x
    shape = list(x.shape)
    for axis in self.broadcast:
      shape[axis] = 1
    keep = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.rate, shape)
    return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)


def dropout(config: TransformerConfig) -> Dropout:
  """Dropout of embeddings and residual branches: [B,T,D]."""
  shared = (-2,) if config.dropout_kind == 't5' else ()
  return Dropout(config.dropout, shared)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gelu(x: jax.Array, approximate: bool) -> jax.Array:
  """x Phi(x), or its approximation by tanh (Hendrycks and Gimpel 2016, 2).

  The backward pass needs x alone. Autodiff would keep the tanh or erfc as well:
  one more array as wide as the MLP in every layer.
  """
  return jax.nn.gelu(x, approximate)


def _gelu_forward(x, approximate):
  return gelu(x, approximate), x


# Written with other functions than the forward pass: XLA would keep what both
# compute.
def _gelu_backward(approximate, x, dy):
  wide = x.astype('float32')
  if approximate:
    scale, cubed = (8 / jnp.pi) ** 0.5, 0.044715
    share = jax.nn.sigmoid(scale * (wide + cubed * wide**3))
    slope = scale * (1 + 3 * cubed * wide**2) * share * (1 - share)
  else:
    share = 0.5 * (1 + jax.lax.erf(wide * 0.5**0.5))
    slope = jnp.exp(-0.5 * wide**2) * (2 * jnp.pi) ** -0.5
  return (((share + wide * slope) * dy).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


def activate(name: str, x: jax.Array) -> jax.Array:
  """Applies the activation function that `model.activation` names."""
  match name:
    case 'relu':
      return jax.nn.relu(x)
    case 'gelu':
      return gelu(x, False)
    case 'gelu_tanh':
      return gelu(x, True)
    case 'silu':
      return jax.nn.silu(x)
    case 'squared_relu':
      return jnp.square(jax.nn.relu(x))
  raise ValueError(f'model.activation: {name!r} is unknown.')


class Mlp(nn.Module):
  """act(x Wi) Wo, or gated: (act(x Wg) * (x Wi)) Wo (Shazeer 2020)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [B,T,D] -> [B,T,D]
    c = self.config

    def dense(features, axes, name, role='mlp'):
      init = initializer(c, role)
      return Dense(features, axes, init, c.dtype, c.bias != 'none', name=name)

    hidden = dense(c.mlp_dim, ('embed', 'mlp'), 'input')(x)
    if c.gated:
      gate = dense(c.mlp_dim, ('embed', 'mlp'), 'gate')(x)
      hidden = activate(c.activation, gate) * hidden
    else:
      hidden = activate(c.activation, hidden)
    hidden = shard(hidden, 'act_batch', 'act_length', 'act_mlp')
    if c.dropout_kind == 't5':
      hidden = dropout(c)(hidden)
    output = dense(c.embed_dim, ('mlp', 'embed'), 'output', 'mlp_output')
    return output(hidden)


class Adapter(nn.Module):
  """x + ReLU(x W1) W2, a small layer that can be trained alone.

  Houlsby et al. 2019, 2.1 (with its own residual); T5 (Raffel et al. 2020,
  3.5.1) has it after each MLP. It has biases where the MLP has. W2 starts at 0,
  so that a model is what it was without adapters.
  """

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [B,T,D] -> [B,T,D]
    c = self.config
    bias, init = c.bias != 'none', initializer(c, 'mlp')
    zeros = nn.initializers.zeros
    axes = ('embed', 'adapter')
    down = Dense(c.adapter_dim, axes, init, c.dtype, bias, name='input')
    up = Dense(c.embed_dim, axes[::-1], zeros, c.dtype, bias, name='output')
    return x + up(jax.nn.relu(down(x)))
