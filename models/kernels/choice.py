"""Which implementation computes attention, or RWKV's mean over the past."""

from models.config import TransformerConfig


def choose(config: TransformerConfig, platform: str) -> tuple[str, str]:
  """What `model.attention` means on a platform: 'xla' or 'flash', and why.

  'auto' takes the kernel where it can do what the config asks for.

  Args:
    config: of the model.
    platform: of the devices, as JAX names it: 'tpu', 'gpu', 'cuda', 'cpu'.

  Raises:
    ValueError: 'flash' cannot do what the config asks for.
  """
  if config.attention == 'xla':
    return 'xla', "model.attention='xla'"
  lacking = _lacking(config, platform)
  if not lacking:
    return 'flash', f'a kernel by blocks, for {platform!r}'
  if config.attention == 'flash':
    raise ValueError(
      f"model.attention='flash' cannot be: {lacking}. Set it to 'xla', or to "
      "'auto', which takes the kernel where it can."
    )
  return 'xla', lacking


def _lacking(config, platform):
  """What the kernel lacks, or ''."""
  if config.position == 'transformer_xl':
    return "model.position='transformer_xl' has a bias of each query's own"
  if platform != 'tpu':
    return f'there is a kernel for TPUs, none for {platform!r}'
  if config.family != 'rwkv' and config.head_dim % 8:
    return f'model.head_dim={config.head_dim} is no multiple of 8'
  return ''
