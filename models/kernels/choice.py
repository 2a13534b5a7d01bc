"""Which implementation computes attention, and which can do what.

For RWKV it computes the mean over the past.
"""

from models.choices import CHOICES
from models.config import TransformerConfig
from models.kernels.cudnn import extra_dims


def choose(
  config: TransformerConfig,
  platform: str,
  capability: str = '',
  packed: bool = True,
) -> tuple[str, str]:
  """What `model.attention` means on a platform, and why.

  'auto' takes the kernel where it can do what the config asks for.

  Args:
    config: of the model.
    platform: of the devices, as JAX names it: 'tpu', 'gpu', 'cuda', 'cpu'.
    capability: of a GPU, as CUDA numbers them: '9.0' is Hopper's.
    packed: whether a row may hold several segments. If not, it must hold one,
      and padding after it, for the kernel knows no more.

  Returns:
    'xla'; 'flash', the kernel for TPUs; 'cudnn', or 'cudnn_unpacked' for rows
    that are not packed. And the reason.

  Raises:
    ValueError: 'flash' cannot do what the config asks for.
  """
  if config.attention not in CHOICES['attention']:
    raise ValueError(
      f'model.attention is {config.attention!r}; it must be one of '
      f'{", ".join(CHOICES["attention"])}.'
    )
  if config.attention == 'xla':
    return 'xla', "model.attention='xla'"
  table = _table(config, platform, capability, packed)
  lacking = next((reason for asked, reason in table if asked), '')
  if not lacking and platform == 'tpu':
    return 'flash', f'a kernel by blocks, for {platform!r}'
  if not lacking:
    chosen = 'cudnn' if packed else 'cudnn_unpacked'
    return chosen, f"cuDNN's kernel by blocks, for {platform!r}"
  if config.attention == 'flash':
    raise ValueError(
      f"model.attention='flash' cannot be: {lacking}. Set it to 'xla', or to "
      "'auto', which takes the kernel where it can."
    )
  return 'xla', lacking


def _table(config, platform, capability, packed):
  """What no kernel does, or not that of the platform: rows (asked, reason)."""
  c = config
  rows = [
    (
      c.family == 'rwkv' and platform != 'tpu',
      f"RWKV's mean has a kernel for TPUs, none for {platform!r}",
    ),
    (
      c.position == 'transformer_xl',
      "model.position='transformer_xl' has a bias of each query's own",
    ),
    (
      platform not in ('tpu', 'gpu', 'cuda'),
      f'there is a kernel for TPUs and for GPUs, none for {platform!r}',
    ),
    (
      c.head_dim % 8,  # RWKV has 0
      f'model.head_dim={c.head_dim} is no multiple of 8',
    ),
  ]
  if platform == 'tpu':
    return rows
  version = _version(capability)
  most = 256 if version >= (9, 0) else 128
  extra = extra_dims(c, packed)
  wide = (
    f'model.head_dim={c.head_dim}, with {extra} for segments and positions, '
    f'is above the {most} of compute capability {capability!r}'
  )
  return [
    *rows,
    (
      version < (8, 0),
      f'cuDNN needs compute capability 8.0 or newer, not {capability!r}',
    ),
    (
      c.dtype != 'bfloat16',
      f'cuDNN computes in bfloat16, not in model.dtype={c.dtype!r}',
    ),
    (
      c.attention_dropout and c.dropout_kind != 't5',
      f'cuDNN lacks the hash of model.attention_dropout={c.attention_dropout}',
    ),
    (c.prefix, 'cuDNN has no causal rule with a prefix (model.prefix)'),
    (
      c.position == 'alibi' and c.family != 'decoder',
      "cuDNN has model.position='alibi' for causal attention alone",
    ),
    (
      c.window and c.position == 'relative_bias',
      f'cuDNN has no window (model.window={c.window}) beside a learned bias',
    ),
    (c.head_dim + extra > most, wide),
  ]


def _version(capability):
  """'9.0' -> (9, 0); (0, 0) for what is no version of CUDA's."""
  major, _, minor = capability.partition('.')
  numbers = major.isdecimal() and minor.isdecimal()
  return (int(major), int(minor)) if numbers else (0, 0)
