"""What a model's config must satisfy.

Each rule names the config key, its value and what would be right. A rule may
rely on those before it.
"""

from typing import Any

from models import family_checks, mup
from models.choices import CHOICES, HEADS_OF, OPTIONAL, RESOLVED
from models.family_checks import at_least, refuse


def check(config: Any) -> None:
  """Checks every rule of a TransformerConfig, which calls this when it is made.

  Raises:
    ValueError: a choice that does not exist, or sizes that do not fit together.
  """
  # RWKV comes first, because later rules would ask it for attention's sizes.
  if config.family == 'rwkv':
    family_checks.rwkv(config)
  _choices(config)
  _sizes(config)
  _positions(config)
  _block(config)
  family_checks.check(config)
  mup.check(config)


def _choices(c):
  """Each choice exists and has its fields, and no other field is set."""
  read = set()
  for name, choices in CHOICES.items():
    value = getattr(c, name)
    if value in RESOLVED.get(name, ()):
      continue
    refuse(
      value not in choices,
      f'model.{name} is {value!r}; it must be one of {", ".join(choices)}.',
    )
    for field in choices[value]:
      refuse(
        not getattr(c, field) > 0,
        f'model.{name}={value!r} needs model.{field}, which is '
        f'{getattr(c, field)}; it must be above 0.',
      )
    read.update(choices[value])
  for name, choices in CHOICES.items():
    for field in (field for fields in choices.values() for field in fields):
      refuse(
        field not in read and getattr(c, field),
        f'model.{field} is {getattr(c, field)}, but model.{name}='
        f'{getattr(c, name)!r} does not read it: set it to 0.',
      )
  for field, position in OPTIONAL.items():
    refuse(
      getattr(c, field) and c.position != position,
      f'model.{field} is {getattr(c, field)}, but model.position='
      f'{c.position!r} does not read it: leave it out.',
    )
  heads = HEADS_OF[c.family]
  refuse(
    c.head not in heads,
    f'model.head is {c.head!r}; model.family={c.family!r} has '
    f'{", ".join(heads)}.',
  )


def _sizes(c):
  attention = ('heads', 'kv_heads', 'head_dim') if c.family != 'rwkv' else ()
  at_least(c, 1, 'vocab_size', 'embed_dim', 'mlp_dim', *attention)
  refuse(
    attention and c.heads % c.kv_heads,
    f'model.kv_heads is {c.kv_heads}; it must divide model.heads, which is '
    f'{c.heads}.',
  )
  for name in ('dropout', 'attention_dropout'):
    refuse(
      not 0 <= getattr(c, name) < 1,
      f'model.{name} is {getattr(c, name)}; it must be at least 0 and below 1.',
    )
  refuse(
    not 0 < c.norm_epsilon < 1,
    f'model.norm_epsilon is {c.norm_epsilon}; it must be above 0 and below 1.',
  )
  at_least(c, 0, 'table_dim', 'adapter_dim', 'token_types', 'window')
  at_least(c, 0, 'position_offset', 'input_dim')
  at_least(c, 1, 'scan_unroll')


def _positions(c):
  if c.position == 'relative_bias':
    refuse(
      c.relative_buckets % 4,
      f'model.relative_buckets is {c.relative_buckets}; it must be a multiple '
      'of 4: two directions, each half exact and half logarithmic.',
    )
    exact = c.relative_buckets // 2
    refuse(
      c.relative_max_distance <= exact,
      f'model.relative_max_distance is {c.relative_max_distance}; it must '
      f'exceed half of model.relative_buckets ({exact}), where the buckets '
      'turn logarithmic.',
    )
  refuse(
    c.rope_dim % 2 or c.rope_dim > c.head_dim,
    f'model.rope_dim is {c.rope_dim}; it must be even and at most '
    f'model.head_dim, which is {c.head_dim}.',
  )
  if c.rope_scaling:
    _rope_scaling(c)
  if c.position in ('sinusoidal', 'transformer_xl'):
    what, width = 'embeddings', c.table_width
    if c.position == 'transformer_xl':
      what, width = 'model', c.embed_dim
    refuse(
      width % 2,
      f'model.position={c.position!r} pairs sines and cosines: the width of '
      f'the {what}, {width}, must be even.',
    )
  refuse(
    c.position_offset and c.position_offset >= c.max_length,
    f'model.position_offset is {c.position_offset}; it must be below '
    f'model.max_length, which is {c.max_length}.',
  )


def _rope_scaling(c):
  numbers = all(isinstance(x, int | float) for x in c.rope_scaling)
  refuse(
    len(c.rope_scaling) != 4 or not numbers,
    f'model.rope_scaling is {c.rope_scaling}; it must be empty or four '
    'numbers: factor, low and high frequency factor, former length.',
  )
  factor, low, high, former = c.rope_scaling
  refuse(
    not (factor >= 1 and 0 < low < high and former > 0),
    f'model.rope_scaling is {c.rope_scaling}: the factor must be at least 1, '
    'the low frequency factor above 0 and below the high one, the former '
    'length above 0.',
  )


def _block(c):
  if c.parallel != 'none':
    refuse(
      c.norm_placement == 'post',
      f"model.parallel={c.parallel!r} needs model.norm_placement='pre': both "
      'branches meet in one sum, so neither has a norm after it.',
    )
    refuse(
      c.family == 'encoder_decoder',
      f'model.parallel={c.parallel!r} has no place for cross-attention: '
      "model.family='encoder_decoder' needs 'none'.",
    )
  refuse(
    bool(c.window) != bool(c.window_every),
    f'model.window={c.window} and model.window_every={c.window_every} go '
    'together: set both, or neither.',
  )
  refuse(
    c.window and not 1 <= c.window_every <= c.decoder_layers,
    f'model.window_every={c.window_every} leaves no layer banded: it must be '
    f'between 1 and model.decoder_layers={c.decoder_layers}.',
  )
  refuse(
    c.window and c.family != 'decoder',
    f'model.window={c.window} bands causal attention: it needs '
    f"model.family='decoder', not {c.family!r}.",
  )
