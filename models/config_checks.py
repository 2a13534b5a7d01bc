"""What a model's config must satisfy.

Each rule names the config key, its value and what would be right. A rule may
rely on those before it.
"""

from typing import Any

from models import mup
from models.choices import CHOICES, HEADS_OF, LABELS, OPTIONAL, RESOLVED


def check(config: Any) -> None:
  """Checks every rule of a TransformerConfig, which calls this when it is made.

  Raises:
    ValueError: a choice that does not exist, or sizes that do not fit together.
  """
  # RWKV comes first, because later rules would ask it for attention's sizes.
  if config.family == 'rwkv':
    _rwkv(config)
  _choices(config)
  _sizes(config)
  _positions(config)
  _block(config)
  _family(config)
  mup.check(config)


def _refuse(refused, reason):
  if refused:
    raise ValueError(reason)


def _rwkv(c):
  _refuse(
    c.heads
    or c.kv_heads
    or c.head_dim
    or c.attention_dropout
    or c.scale_attention
    or c.position != 'none',
    "model.family='rwkv' has no attention: model.heads, kv_heads, head_dim "
    'and attention_dropout must be 0, scale_attention False and position '
    "'none'.",
  )
  _refuse(
    c.remat == 'attention',
    "model.family='rwkv' has no attention: model.remat='attention' recomputes "
    "nothing. Set it to 'full', 'mlp', 'dots' or 'none'.",
  )
  _refuse(
    (c.norm_placement, c.parallel, c.bias) != ('pre', 'none', 'none')
    or c.gated
    or c.table_dim
    or c.adapter_dim,
    "model.family='rwkv' has a block of its own: model.norm_placement must "
    "be 'pre', parallel and bias 'none', gated False, table_dim and "
    'adapter_dim 0.',
  )
  _refuse(
    c.init != 'rwkv',
    f"model.init={c.init!r} does not set RWKV's decays: model.family='rwkv' "
    "needs 'rwkv'.",
  )


def _choices(c):
  """Each choice exists and has its fields, and no other field is set."""
  read = set()
  for name, choices in CHOICES.items():
    value = getattr(c, name)
    if value in RESOLVED.get(name, ()):
      continue
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
    read.update(choices[value])
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
  heads = HEADS_OF[c.family]
  _refuse(
    c.head not in heads,
    f'model.head is {c.head!r}; model.family={c.family!r} has '
    f'{", ".join(heads)}.',
  )


def _sizes(c):
  attention = ('heads', 'kv_heads', 'head_dim') if c.family != 'rwkv' else ()
  _at_least(c, 1, 'vocab_size', 'embed_dim', 'mlp_dim', *attention)
  _refuse(
    attention and c.heads % c.kv_heads,
    f'model.kv_heads is {c.kv_heads}; it must divide model.heads, which is '
    f'{c.heads}.',
  )
  for name in ('dropout', 'attention_dropout'):
    _refuse(
      not 0 <= getattr(c, name) < 1,
      f'model.{name} is {getattr(c, name)}; it must be at least 0 and below 1.',
    )
  _refuse(
    not 0 < c.norm_epsilon < 1,
    f'model.norm_epsilon is {c.norm_epsilon}; it must be above 0 and below 1.',
  )
  _at_least(c, 0, 'table_dim', 'adapter_dim', 'token_types', 'window')
  _at_least(c, 0, 'position_offset', 'input_dim')
  _at_least(c, 1, 'scan_unroll')


def _at_least(c, least, *names):
  for name in names:
    _refuse(
      getattr(c, name) < least,
      f'model.{name} is {getattr(c, name)}; it must be at least {least}.',
    )


def _positions(c):
  if c.position == 'relative_bias':
    _refuse(
      c.relative_buckets % 4,
      f'model.relative_buckets is {c.relative_buckets}; it must be a multiple '
      'of 4: two directions, each half exact and half logarithmic.',
    )
    exact = c.relative_buckets // 2
    _refuse(
      c.relative_max_distance <= exact,
      f'model.relative_max_distance is {c.relative_max_distance}; it must '
      f'exceed half of model.relative_buckets ({exact}), where the buckets '
      'turn logarithmic.',
    )
  _refuse(
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
    _refuse(
      width % 2,
      f'model.position={c.position!r} pairs sines and cosines: the width of '
      f'the {what}, {width}, must be even.',
    )
  _refuse(
    c.position_offset and c.position_offset >= c.max_length,
    f'model.position_offset is {c.position_offset}; it must be below '
    f'model.max_length, which is {c.max_length}.',
  )


def _rope_scaling(c):
  numbers = all(isinstance(x, int | float) for x in c.rope_scaling)
  _refuse(
    len(c.rope_scaling) != 4 or not numbers,
    f'model.rope_scaling is {c.rope_scaling}; it must be empty or four '
    'numbers: factor, low and high frequency factor, former length.',
  )
  factor, low, high, former = c.rope_scaling
  _refuse(
    not (factor >= 1 and 0 < low < high and former > 0),
    f'model.rope_scaling is {c.rope_scaling}: the factor must be at least 1, '
    'the low frequency factor above 0 and below the high one, the former '
    'length above 0.',
  )


def _block(c):
  if c.parallel != 'none':
    _refuse(
      c.norm_placement == 'post',
      f"model.parallel={c.parallel!r} needs model.norm_placement='pre': both "
      'branches meet in one sum, so neither has a norm after it.',
    )
    _refuse(
      c.family == 'encoder_decoder',
      f'model.parallel={c.parallel!r} has no place for cross-attention: '
      "model.family='encoder_decoder' needs 'none'.",
    )
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


def _family(c):
  """What only some families or heads have."""
  _generator(c)
  if c.shared_stacks:
    _shared_stacks(c)
  number = (c.head, c.classes, c.table_dim) == ('tokens', 1, 0)
  _refuse(
    c.input_dim and not (c.family in ('decoder', 'rwkv') and number),
    f'model.input_dim={c.input_dim} reads vectors, not tokens: it needs model.'
    "family 'decoder' or 'rwkv', head 'tokens', classes 1 and table_dim 0.",
  )
  _refuse(
    c.prefix and (c.family != 'decoder' or c.head not in ('lm', 'lm_value')),
    'model.prefix=True lets the inputs of a decoder see one another: it needs '
    f"model.family='decoder' with head 'lm', not {c.family!r} with {c.head!r}.",
  )
  _refuse(
    c.causal_bias and not (c.prefix and c.position == 'relative_bias'),
    'model.causal_bias=True says how far the keys of a prefix are that come '
    "after a query: it needs model.prefix=True and model.position='relative_"
    f"bias', not {c.prefix} and {c.position!r}.",
  )
  _refuse(
    c.table_dim
    and c.tie_embeddings
    and not c.output_transform
    and c.head
    in ('lm', 'lm_value', 'mlm', 'mlm_nsp', 'replace_mlm', 'all_tokens_mlm'),
    f'model.tie_embeddings with a table of width model.table_dim={c.table_dim} '
    "needs model.output_transform to bring the last layer's output to that "
    'width.',
  )
  _refuse(
    c.token_types and c.family not in ('encoder', 'electra'),
    f'model.token_types={c.token_types}: model.family={c.family!r} reads no '
    'token types; set it to 0.',
  )
  _refuse(
    c.pooler_dropout and c.family != 'encoder',
    "model.pooler_dropout=True concerns an encoder's head: model.family="
    f'{c.family!r} has no such layer.',
  )
  _refuse(
    c.head == 'span_joint' and c.token_types < 2,
    "model.head='span_joint' knows the context by its type: it needs "
    f'model.token_types=2, not {c.token_types}.',
  )
  read = c.family == 'encoder' and c.head == 'tokens'
  if c.family == 'decoder' and c.head in LABELS:
    read = c.features in ('', 'last')
  _refuse(
    c.features and not read,
    f"model.features={c.features!r} concerns an encoder's head 'tokens', or as "
    f"'last' a decoder's {', '.join(LABELS)}, not {c.head!r} of {c.family!r}.",
  )
  sequence = c.family == 'encoder' and c.head in ('sequence', 'choice')
  sequence |= c.family == 'encoder_decoder' and c.head == 'sequence'
  _refuse(
    not c.pooler and not sequence,
    "model.pooler=False concerns an encoder's head 'sequence' or 'choice', or "
    f"an encoder-decoder's 'sequence', not {c.head!r} of {c.family!r}.",
  )
  _refuse(
    c.init == 'rwkv' and c.family != 'rwkv',
    "model.init='rwkv' describes RWKV's own weights, not those of "
    f'model.family={c.family!r}.',
  )


def _shared_stacks(c):
  """Two stacks of one depth (Raffel et al. 2020, 3.2.2)."""
  _refuse(
    c.family != 'encoder_decoder',
    'model.shared_stacks=True shares the weights of two stacks: it needs '
    f"model.family='encoder_decoder', not {c.family!r}.",
  )
  _refuse(
    c.encoder_layers != c.decoder_layers,
    'model.shared_stacks=True needs stacks of the same depth, but '
    f'model.encoder_layers is {c.encoder_layers} and model.decoder_layers '
    f'{c.decoder_layers}.',
  )


def _generator(c):
  """Only ELECTRA has a generator; its sizes are whole, and its heads fit."""
  sizes = 'divisor', 'dim', 'heads', 'layers'
  sizes = {f'generator_{name}': 0 for name in sizes}
  unused, why = {}, ''
  if c.family != 'electra':
    unused = {'generator': 'mlm', 'generator_shares': 'tables'} | sizes
    why = f'model.family={c.family!r} has no generator'
  elif c.generator == 'unigram':
    unused = {'generator_shares': 'tables'} | sizes
    why = "model.generator='unigram' has no layers and no tables"
  for name, off in unused.items():
    value = getattr(c, name)
    _refuse(
      value != off, f'model.{name} is {value!r}, but {why}: set it to {off!r}.'
    )
  if unused:
    return
  _at_least(c, 0, *sizes)
  _refuse(
    bool(c.generator_divisor) == bool(c.generator_dim),
    f"The generator's width is model.embed_dim / model.generator_divisor, or "
    f'model.generator_dim: set one of them, not {c.generator_divisor} and '
    f'{c.generator_dim}.',
  )
  for name in ('embed_dim', 'mlp_dim'):
    _refuse(
      c.generator_divisor and getattr(c, name) % c.generator_divisor,
      f'model.generator_divisor is {c.generator_divisor}; it must divide '
      f'model.{name}, which is {getattr(c, name)}.',
    )
  _refuse(
    c.mlp_dim * c.generator_dim % c.embed_dim,
    f'model.generator_dim is {c.generator_dim}; the inner width of its MLP, '
    f'model.mlp_dim / model.embed_dim = {c.mlp_dim} / {c.embed_dim} times '
    'that, must be a whole number.',
  )
  own = c.generator_sizes
  _refuse(
    own['heads'] % own['kv_heads'],
    f'The generator, {own["embed_dim"]} wide, has {own["heads"]} of '
    f'model.heads and {own["kv_heads"]} of model.kv_heads; the second must '
    'divide the first: change model.generator_heads.',
  )
  unequal = [name for name, n in own.items() if n != getattr(c, name)]
  _refuse(
    c.generator_shares == 'all' and unequal,
    "model.generator_shares='all' ties all weights, so the generator must be "
    'as large as the discriminator: set model.generator_divisor to 1 and '
    'generator_heads and generator_layers to 0. They differ in '
    f'{", ".join(unequal)}.',
  )
  _refuse(
    c.generator == 'adversarial' and c.head not in ('rtd', 'rtd_masked'),
    "model.generator='adversarial' learns from a discriminator that detects "
    f"replaced tokens: it needs model.head='rtd' or 'rtd_masked', not "
    f'{c.head!r}.',
  )
