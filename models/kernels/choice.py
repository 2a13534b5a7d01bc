"""Which implementation computes attention, and which can do what.

For RWKV it computes the mean over the past.
"""

from models.choices import CHOICES
from models.config import TransformerConfig
from models.kernels import triton
from models.kernels.cudnn import extra_dims


def choose(
  config: TransformerConfig,
  platform: str,
  capability: str = '',
  packed: bool = True,
  sequence: int = 1,
) -> tuple[str, str]:
  """What `model.attention` means on a platform, and why.

  'auto' takes the kernel where it can do what the config asks for.

  Args:
    config: of the model.
    platform: of the devices, as JAX names it: 'tpu', 'gpu', 'cuda', 'cpu'.
    capability: of a GPU, as CUDA numbers them: '9.0' is Hopper's.
    packed: whether a row may hold several segments. If not, it must hold one,
      and padding after it, for the kernel knows no more.
    sequence: the size of that axis of the mesh, which cuts rows.

  Returns:
    'xla'; 'flash', the kernel for TPUs; for GPUs 'cudnn', or 'cudnn_unpacked'
    for rows that are not packed, or 'triton', which drops weights. And the
    reason.

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
  table = _table(config, platform, capability, packed, sequence)
  lacking = next((reason for asked, reason in table if asked), '')
  if lacking and config.attention == 'flash':
    raise ValueError(
      f"model.attention='flash' cannot be: {lacking}. Set it to 'xla', or to "
      "'auto', which takes the kernel where it can."
    )
  if lacking:
    return 'xla', lacking
  if platform == 'tpu':
    return 'flash', f'a kernel by blocks, for {platform!r}'
  if _drops(config) or sequence > 1:
    does = f'reads parts of rows (sharding.mesh.sequence={sequence})'
    if _drops(config):
      rate = config.attention_dropout
      does = f'drops weights (model.attention_dropout={rate})'
    return 'triton', f'a kernel by blocks that {does}, for {platform!r}'
  chosen = 'cudnn' if packed else 'cudnn_unpacked'
  return chosen, f"cuDNN's kernel by blocks, for {platform!r}"


def _table(config, platform, capability, packed, sequence):
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
  rows += [
    (
      _version(capability) < (8, 0),
      f'kernels need compute capability 8.0 or newer, not {capability!r}',
    ),
    (
      c.dtype != 'bfloat16',
      f'kernels for GPUs have bfloat16, not model.dtype={c.dtype!r}',
    ),
    (
      c.prefix,
      'kernels for GPUs have no causal rule with a prefix (model.prefix)',
    ),
  ]
  if _drops(c) or sequence > 1:
    return rows + _of_triton(c, sequence)
  return rows + _of_cudnn(c, capability, packed)


def _drops(config):
  """Whether dropout drops weights; T5's drops values."""
  return config.attention_dropout > 0 and config.dropout_kind != 't5'


def _of_triton(c, sequence):
  """What the kernel that takes cuDNN's place does not: rows of `_table`."""
  why = f'model.attention_dropout={c.attention_dropout}'
  if not _drops(c):  # cuDNN takes whole rows
    why = f'sharding.mesh.sequence={sequence}'
  wide = (
    f'model.head_dim={c.head_dim} is above {triton.WIDEST}, the most of the '
    f'kernel for {why}'
  )
  return [
    (
      not triton.is_here(),
      f'{why} needs the Triton of Pallas, which this jax lacks',
    ),
    (
      c.position in ('alibi', 'relative_bias'),
      f'the kernel for {why} has no bias (model.position={c.position!r})',
    ),
    (c.head_dim > triton.WIDEST, wide),
  ]


def _of_cudnn(c, capability, packed):
  """What cuDNN does not: rows of `_table`."""
  most = 256 if _version(capability) >= (9, 0) else 128
  extra = extra_dims(c, packed)
  wide = (
    f'model.head_dim={c.head_dim}, with {extra} for segments and positions, '
    f'is above the {most} of compute capability {capability!r}'
  )
  return [
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
