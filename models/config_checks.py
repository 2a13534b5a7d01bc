"""What a model's config must satisfy, one rule a function.

Every rule takes a TransformerConfig and raises ValueError with the config key,
its value and what would be right. `RULES` lists them in the order in which they
are checked; a rule may rely on those before it.
"""

from typing import Any

from models.choices import CHOICES, HEADS_OF, OPTIONAL


def check(config: Any) -> None:
  """Checks every rule.

  Args:
    config: a TransformerConfig, which calls this when it is made.

  Raises:
    ValueError: a choice that does not exist, or sizes that do not fit together.
  """
  for rule in RULES:
    rule(config)


def _refuse(refused, reason):
  if refused:
    raise ValueError(reason)


# RWKV comes first, because later rules would ask it for the sizes of attention.


def _rwkv_has_no_attention(c):
  _refuse(
    c.family == 'rwkv'
    and (
      c.heads
      or c.kv_heads
      or c.head_dim
      or c.attention_dropout
      or c.scale_attention
      or c.position != 'none'
    ),
    "model.family='rwkv' has no attention: model.heads, kv_heads, head_dim "
    'and attention_dropout must be 0, scale_attention False and position '
    "'none'.",
  )


def _rwkv_has_its_own_block(c):
  _refuse(
    c.family == 'rwkv'
    and (
      c.norm_placement != 'pre'
      or c.parallel != 'none'
      or c.bias != 'none'
      or c.gated
      or c.table_dim
    ),
    "model.family='rwkv' has a block of its own: model.norm_placement must "
    "be 'pre', parallel and bias 'none', gated False and table_dim 0.",
  )


def _rwkv_needs_its_own_init(c):
  _refuse(
    c.family == 'rwkv' and c.init != 'rwkv',
    f"model.init={c.init!r} does not set RWKV's decays: model.family='rwkv' "
    "needs 'rwkv'.",
  )


def _choices_exist_and_have_their_fields(c):
  for name, choices in CHOICES.items():
    value = getattr(c, name)
    _refuse(
      value not in choices,
      f'model.{name} is {value!r}; it must be one of {", ".join(choices)}.',
    )
    for field in choices[value]:
      _refuse(
        not getattr(c, field) > 0,
        f'model.{name}={value!r} needs model.{field}, which is '
        f'{getattr(c, field)}; it must be above 0.',
      )


def _no_field_is_set_that_no_choice_reads(c):
  read = {
    field
    for name, choices in CHOICES.items()
    for field in choices[getattr(c, name)]
  }
  for name, choices in CHOICES.items():
    for field in (field for fields in choices.values() for field in fields):
      _refuse(
        field not in read and getattr(c, field),
        f'model.{field} is {getattr(c, field)}, but model.{name}='
        f'{getattr(c, name)!r} does not read it: set it to 0.',
      )
  for field, position in OPTIONAL.items():
    _refuse(
      getattr(c, field) and c.position != position,
      f'model.{field} is {getattr(c, field)}, but model.position='
      f'{c.position!r} does not read it: leave it out.',
    )


def _the_family_has_the_head(c):
  heads = HEADS_OF[c.family]
  _refuse(
    c.head not in heads,
    f'model.head is {c.head!r}; model.family={c.family!r} has '
    f'{", ".join(heads)}.',
  )


def _sizes_are_at_least_1(c):
  sizes = ['vocab_size', 'embed_dim', 'mlp_dim']
  if c.family != 'rwkv':
    sizes += ['heads', 'kv_heads', 'head_dim']
  for name in sizes:
    _refuse(
      getattr(c, name) < 1,
      f'model.{name} is {getattr(c, name)}; it must be at least 1.',
    )


def _kv_heads_divide_heads(c):
  _refuse(
    c.family != 'rwkv' and c.heads % c.kv_heads,
    f'model.kv_heads is {c.kv_heads}; it must divide model.heads, which is '
    f'{c.heads}.',
  )


def _dropout_is_a_rate(c):
  for name in ('dropout', 'attention_dropout'):
    _refuse(
      not 0 <= getattr(c, name) < 1,
      f'model.{name} is {getattr(c, name)}; it must be at least 0 and below 1.',
    )


def _norm_epsilon_is_small(c):
  _refuse(
    not 0 < c.norm_epsilon < 1,
    f'model.norm_epsilon is {c.norm_epsilon}; it must be above 0 and below 1.',
  )


def _optional_sizes_are_not_negative(c):
  for name in ('table_dim', 'token_types', 'window', 'position_offset'):
    _refuse(
      getattr(c, name) < 0,
      f'model.{name} is {getattr(c, name)}; it must be at least 0.',
    )


def _relative_buckets_divide_the_distances(c):
  _refuse(
    c.position == 'relative_bias'
    and (c.relative_buckets < 4 or c.relative_buckets % 4),
    f'model.relative_buckets is {c.relative_buckets}; it must be a multiple of '
    '4: two directions, each half exact and half logarithmic.',
  )
  exact = c.relative_buckets // 2
  _refuse(
    c.position == 'relative_bias' and c.relative_max_distance <= exact,
    f'model.relative_max_distance is {c.relative_max_distance}; it must exceed '
    f'half of model.relative_buckets ({exact}), where the buckets turn '
    'logarithmic.',
  )


def _rope_turns_pairs_of_a_head(c):
  _refuse(
    c.position == 'rope' and (c.rope_dim % 2 or c.rope_dim > c.head_dim),
    f'model.rope_dim is {c.rope_dim}; it must be even and at most '
    f'model.head_dim, which is {c.head_dim}.',
  )


def _rope_scaling_stretches(c):
  numbers = all(isinstance(x, int | float) for x in c.rope_scaling)
  _refuse(
    len(c.rope_scaling) not in (0, 4) or not numbers,
    f'model.rope_scaling is {c.rope_scaling}; it must be empty or four '
    'numbers: factor, low and high frequency factor, former length.',
  )
  if not c.rope_scaling:
    return
  factor, low, high, former = c.rope_scaling
  _refuse(
    not (factor >= 1 and 0 < low < high and former > 0),
    f'model.rope_scaling is {c.rope_scaling}: the factor must be at least 1, '
    'the low frequency factor above 0 and below the high one, the former '
    'length above 0.',
  )


def _sinusoids_come_in_pairs(c):
  widths = {
    'sinusoidal': ('embeddings', c.table_width),
    'transformer_xl': ('model', c.embed_dim),
  }
  what, width = widths.get(c.position, ('', 0))
  _refuse(
    width % 2,
    f'model.position={c.position!r} pairs sines and cosines: the width of the '
    f'{what}, {width}, must be even.',
  )


def _learned_positions_begin_within_their_table(c):
  _refuse(
    c.position_offset and c.position_offset >= c.max_length,
    f'model.position_offset is {c.position_offset}; it must be below '
    f'model.max_length, which is {c.max_length}.',
  )


def _the_generator_divides_the_sizes(c):
  if c.family != 'electra':
    return
  for name in ('embed_dim', 'mlp_dim'):
    _refuse(
      getattr(c, name) % c.generator_divisor,
      f'model.generator_divisor is {c.generator_divisor}; it must divide '
      f'model.{name}, which is {getattr(c, name)}.',
    )
  heads, kv_heads = (
    max(1, n // c.generator_divisor) for n in (c.heads, c.kv_heads)
  )
  _refuse(
    heads % kv_heads,
    f'model.generator_divisor={c.generator_divisor} leaves the generator '
    f'{heads} of model.heads and {kv_heads} of model.kv_heads; the second must '
    'divide the first.',
  )


def _parallel_branches_meet_in_one_sum(c):
  _refuse(
    c.parallel != 'none' and c.norm_placement == 'post',
    f"model.parallel={c.parallel!r} needs model.norm_placement='pre': both "
    'branches meet in one sum, so neither has a norm after it.',
  )
  _refuse(
    c.parallel != 'none' and c.family == 'encoder_decoder',
    f'model.parallel={c.parallel!r} has no place for cross-attention: '
    "model.family='encoder_decoder' needs 'none'.",
  )


def _window_bands_layers_of_a_decoder(c):
  _refuse(
    bool(c.window) != bool(c.window_every),
    f'model.window={c.window} and model.window_every={c.window_every} go '
    'together: set both, or neither.',
  )
  _refuse(
    c.window and not 1 <= c.window_every <= c.decoder_layers,
    f'model.window_every={c.window_every} leaves no layer banded: it must be '
    f'between 1 and model.decoder_layers={c.decoder_layers}.',
  )
  _refuse(
    c.window and c.family != 'decoder',
    f'model.window={c.window} bands causal attention: it needs '
    f"model.family='decoder', not {c.family!r}.",
  )


def _prefix_needs_a_decoder(c):
  _refuse(
    c.prefix and (c.family != 'decoder' or c.head != 'lm'),
    'model.prefix=True lets the inputs of a decoder see one another: it needs '
    f"model.family='decoder' with head 'lm', not {c.family!r} with {c.head!r}.",
  )


def _tied_tables_are_as_wide_as_the_output(c):
  _refuse(
    c.table_dim
    and c.tie_embeddings
    and not c.output_transform
    and c.head in ('lm', 'mlm', 'mlm_nsp'),
    f'model.tie_embeddings with a table of width model.table_dim={c.table_dim} '
    "needs model.output_transform to bring the last layer's output to that "
    'width.',
  )


def _token_types_need_an_encoder(c):
  _refuse(
    c.token_types and c.family not in ('encoder', 'electra'),
    f'model.token_types={c.token_types}: model.family={c.family!r} reads no '
    'token types; set it to 0.',
  )


def _pooler_dropout_needs_an_encoder(c):
  _refuse(
    c.pooler_dropout and c.family != 'encoder',
    "model.pooler_dropout=True concerns an encoder's head: model.family="
    f'{c.family!r} has no such layer.',
  )


def _rwkv_init_needs_rwkv(c):
  _refuse(
    c.init == 'rwkv' and c.family != 'rwkv',
    "model.init='rwkv' describes RWKV's own weights, not those of "
    f'model.family={c.family!r}.',
  )


def _only_heads_of_sequences_lack_a_pooler(c):
  _refuse(
    not c.pooler
    and (c.family != 'encoder' or c.head not in ('sequence', 'choice')),
    "model.pooler=False concerns an encoder's head 'sequence' or 'choice', not "
    f'{c.head!r} of {c.family!r}.',
  )


RULES = (
  _rwkv_has_no_attention,
  _rwkv_has_its_own_block,
  _rwkv_needs_its_own_init,
  _choices_exist_and_have_their_fields,
  _no_field_is_set_that_no_choice_reads,
  _the_family_has_the_head,
  _sizes_are_at_least_1,
  _kv_heads_divide_heads,
  _dropout_is_a_rate,
  _norm_epsilon_is_small,
  _optional_sizes_are_not_negative,
  _relative_buckets_divide_the_distances,
  _rope_turns_pairs_of_a_head,
  _rope_scaling_stretches,
  _sinusoids_come_in_pairs,
  _the_generator_divides_the_sizes,
  _parallel_branches_meet_in_one_sum,
  _window_bands_layers_of_a_decoder,
  _prefix_needs_a_decoder,
  _tied_tables_are_as_wide_as_the_output,
  _learned_positions_begin_within_their_table,
  _token_types_need_an_encoder,
  _pooler_dropout_needs_an_encoder,
  _only_heads_of_sequences_lack_a_pooler,
  _rwkv_init_needs_rwkv,
)
