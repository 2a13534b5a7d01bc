"""What is wrong with a config's group `tuning`."""

from ml_collections import ConfigDict

from models.config import TransformerConfig

CHOICES = 'all', 'lora', 'adapters', 'head', 'unfreezing', 'two_stage'
# All of their steps leave the same part frozen.
FREEZING = 'lora', 'adapters', 'head'
BASE_DTYPES = '', 'bfloat16'  # '': float32


def check(config: ConfigDict) -> None:
  """Checks the group `tuning`.

  Raises:
    ValueError: an unknown choice, a missing key or an ignored one.
  """
  group = config.tuning
  if group.train not in CHOICES:
    raise ValueError(
      f'tuning.train is {group.train!r}; it must be one of '
      f'{", ".join(CHOICES)}.'
    )
  for key in ('rank', 'alpha', 'matrices'):
    value, used = group[key], group.train == 'lora'
    wanted = value and (key == 'matrices' or value > 0)
    if used and not wanted:
      raise ValueError(
        f'tuning.{key} is {value!r}; tuning.train=lora needs '
        + ('names of matrices.' if key == 'matrices' else 'a number above 0.')
      )
    if value and not used:
      raise ValueError(
        f'tuning.{key} is {value!r}, but tuning.train={group.train} does not '
        'use it; leave it unset.'
      )
  _check_base(config)
  if not 0 <= group.layer_decay <= 1:
    raise ValueError(
      f'tuning.layer_decay is {group.layer_decay}; it must be between 0 and 1.'
    )
  if group.train == 'lora' and config.model.base_dim:
    raise ValueError(
      f'model.base_dim is {config.model.base_dim}, but tuning.train=lora: muP '
      "has no rule for LoRA's factors. Train all parameters, or heads alone."
    )
  if group.train == 'adapters' and not config.model.adapter_dim:
    raise ValueError(
      'tuning.train=adapters needs model.adapter_dim above 0: T5 tries 32, '
      '128, 512 and 2048.'
    )
  if group.train == 'two_stage':
    _check_stages(config)


def _check_base(config):
  """Only weights that are always frozen can have another type."""
  dtype, train = config.tuning.base_dtype, config.tuning.train
  if dtype not in BASE_DTYPES:
    raise ValueError(
      f'tuning.base_dtype is {dtype!r}; it must be bfloat16, or empty for '
      'float32.'
    )
  if dtype and train not in FREEZING:
    raise ValueError(
      f'tuning.base_dtype is {dtype!r}, but tuning.train={train} leaves no '
      f'part frozen: it needs one of {", ".join(FREEZING)}.'
    )
  if dtype and config.train.ema_decay:
    raise ValueError(
      f'tuning.base_dtype is {dtype!r}, but train.ema_decay='
      f'{config.train.ema_decay} averages all parameters in float32: set one '
      'of them to 0 or empty.'
    )


def _check_stages(config):
  """The generator must be frozen whole, and as large as the discriminator."""
  model, steps = TransformerConfig(**config.model), config.train.steps
  needs = {
    'family': ('electra',),
    'generator': ('mlm',),
    'generator_shares': ('none',),
    'head': ('rtd', 'rtd_masked'),
  }
  for key, values in needs.items():
    if (value := getattr(model, key)) not in values:
      raise ValueError(
        f'tuning.train=two_stage needs model.{key}={" or ".join(values)}, not '
        f'{value!r}: it trains a generator of masked tokens, and then a '
        'discriminator that shares no weight with it.'
      )
  for key, own in model.generator_sizes.items():
    if own != (value := getattr(model, key)):
      raise ValueError(
        'tuning.train=two_stage begins the discriminator with the weights of '
        f'the generator, which has model.{key}={own}, not {value}: set '
        'model.generator_divisor to 1, and generator_heads and '
        'generator_layers to 0.'
      )
  if steps % 2:
    raise ValueError(
      f'train.steps is {steps}; tuning.train=two_stage cuts them in two equal '
      'stages: it must be even.'
    )
