"""muP: the learning rate that fits a narrow model fits a wide one.

Maximal update parametrization (Yang et al. 2022, "Tensor Programs V", table 8,
which also fits tied embeddings). The config names the width of a base model,
`model.base_dim`: that model is this one with all widths (D, F, N H, K H) made
m = D / base_dim times narrower. It is trained as it would be without muP. In a
wider one, and for m times more

    weights                    variance at first  multiplier  step of Adam
    input-like: tables,        1                  1           1
    vectors: norms, biases     -                  1           1
    hidden: the other kernels  1 / m              1           1 / m
    output-like: of logits     1                  1 / m       1
    and classes

and attention's logits are divided by H, not by H^1/2, if heads grow: they have
the size that they have at the base's `model.base_head_dim`. What the config
multiplies by a power of D (scale_embed, scale_output) has the base's D. The
steps are train/learning/mup.py's.

The functions take a TransformerConfig, and change nothing without base_dim.
"""

from collections.abc import Callable
from typing import Any

import jax

Initializer = Callable[..., jax.Array]

FAMILIES = 'encoder', 'decoder', 'encoder_decoder'
# These have a weight between the model's width and another one that this file
# knows no rule for, or a layer of their own making.
WITHOUT = {'table_dim': 0, 'input_dim': 0, 'adapter_dim': 0, 'features': ''}
HEADS_WITHOUT = 'rtd', 'span_joint'
INPUTS = 'table', 'position'  # roles of layers.initializer
OUTPUTS = ('output',)


def widening(config: Any) -> float:
  """m, how many times wider the model is than its base; 1 without a base."""
  return config.embed_dim / config.base_dim if config.base_dim else 1.0


def attention_scale(config: Any) -> float:
  """What queries are multiplied by (definition 4.1: 1 / H)."""
  c = config
  scale = c.head_dim**-0.5 if c.scale_attention else 1.0
  if not c.base_head_dim:
    return scale
  wider = c.head_dim / c.base_head_dim
  # T5's queries are small by their initialisation, which stays the base's.
  return scale * wider ** (-0.5 if c.scale_attention else -1.0)


def differs(config: Any) -> bool:
  """Whether the model, once trained, computes what none without muP does."""
  own = config.base_head_dim in (0, config.head_dim)
  return widening(config) != 1 or not own


def adjusted(config: Any, role: str, init: Initializer) -> Initializer:
  """The initializer that a weight has by muP: what it draws, times a number.

  Args:
    config: a TransformerConfig.
    role: that of `layers.initializer`, or 'bias' (relative_bias).
    init: what the weight has otherwise.
  """
  if not config.base_dim:
    return init

  def draw(key, shape, dtype):
    return init(key, shape, dtype) * _factor(config, role, shape)

  return draw


def _factor(c, role, shape):
  m, inputs, outputs = widening(c), *shape
  wider_heads = c.head_dim / (c.base_head_dim or c.head_dim)
  if role == 'bias':  # a glorot_uniform of buckets and heads
    base = outputs * wider_heads / m
    return ((inputs + outputs) / (inputs + base)) ** 0.5
  hidden = role not in (*INPUTS, *OUTPUTS)
  match c.init:
    case 't5' | 'fan_in':  # 1 / I, and tables 1
      if role == 'query' and c.init == 't5' and not c.scale_attention:
        return wider_heads**0.5
      return m**0.5 if role in OUTPUTS else 1.0
    case 'glorot':  # 2 / (I + O), and tables 1 / D
      if role in OUTPUTS:
        return ((inputs + outputs) / (inputs / m + outputs)) ** 0.5
      return 1.0 if hidden else m**0.5
  return m**-0.5 if hidden else 1.0  # init_std, which is the base's


def check(config: Any) -> None:
  """Raises ValueError if the model has no base, or what muP does not know."""
  c, base = config, config.base_dim
  if not base:
    if c.base_head_dim:
      raise ValueError(
        f'model.base_head_dim is {c.base_head_dim}, but model.base_dim is 0: '
        'muP needs the width of the base model too. Set both, or neither.'
      )
    return
  if base < 0 or c.base_head_dim < 0:
    raise ValueError(
      f'model.base_dim is {base} and model.base_head_dim {c.base_head_dim}; '
      'they must be at least 0.'
    )
  if c.family not in FAMILIES:
    raise ValueError(
      f'model.base_dim is {base}, but muP is not known for model.family='
      f'{c.family!r}: set it to 0. It is for {", ".join(FAMILIES)}.'
    )
  for name, off in WITHOUT.items():
    if getattr(c, name) != off:
      raise ValueError(
        f'model.{name} is {getattr(c, name)!r}, which muP has no rule for: '
        f'set it to {off!r}, or model.base_dim, which is {base}, to 0.'
      )
  if c.head in HEADS_WITHOUT:
    raise ValueError(
      f'model.head={c.head!r} has layers that muP has no rule for: set '
      f'model.base_dim, which is {base}, to 0.'
    )
  head = c.base_head_dim or c.head_dim
  for name in ('mlp_dim', 'heads', 'kv_heads'):
    width, narrower = getattr(c, name), c.embed_dim
    if name != 'mlp_dim':
      width, narrower = width * c.head_dim, narrower * head
    if width * base % narrower:
      raise ValueError(
        f'model.base_dim={base} says that the base model is {widening(c):g} '
        f'times narrower, so its model.{name} would be '
        f'{width * base / narrower:g}, which must be whole. All widths grow '
        'together; heads may grow in number, or in size from '
        f'model.base_head_dim (now {head}).'
      )
