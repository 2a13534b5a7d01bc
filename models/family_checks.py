"""What only some families or heads have: rules of config_checks."""

from typing import Any

from models.choices import LABELS


def refuse(refused: object, reason: str) -> None:
  """Raises ValueError with the reason if `refused` is true."""
  if refused:
    raise ValueError(reason)


def at_least(c: Any, least: float, *names: str) -> None:
  """Raises ValueError if a field is below `least`."""
  for name in names:
    refuse(
      getattr(c, name) < least,
      f'model.{name} is {getattr(c, name)}; it must be at least {least}.',
    )


def rwkv(c: Any) -> None:
  """RWKV has no attention, and a block of its own."""
  refuse(
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
  refuse(
    c.remat == 'attention',
    "model.family='rwkv' has no attention: model.remat='attention' recomputes "
    "nothing. Set it to 'full', 'mlp', 'dots' or 'none'.",
  )
  refuse(
    (c.norm_placement, c.parallel, c.bias) != ('pre', 'none', 'none')
    or c.gated
    or c.table_dim
    or c.adapter_dim,
    "model.family='rwkv' has a block of its own: model.norm_placement must "
    "be 'pre', parallel and bias 'none', gated False, table_dim and "
    'adapter_dim 0.',
  )
  refuse(
    c.init != 'rwkv',
    f"model.init={c.init!r} does not set RWKV's decays: model.family='rwkv' "
    "needs 'rwkv'.",
  )


def check(c: Any) -> None:
  """Raises ValueError for the first rule that is broken."""
  _generator(c)
  if c.shared_stacks:
    _shared_stacks(c)
  number = (c.head, c.classes, c.table_dim) == ('tokens', 1, 0)
  refuse(
    c.input_dim and not (c.family in ('decoder', 'rwkv') and number),
    f'model.input_dim={c.input_dim} reads vectors, not tokens: it needs model.'
    "family 'decoder' or 'rwkv', head 'tokens', classes 1 and table_dim 0.",
  )
  refuse(
    c.prefix and (c.family != 'decoder' or c.head not in ('lm', 'lm_value')),
    'model.prefix=True lets the inputs of a decoder see one another: it needs '
    "model.family='decoder' with head 'lm' or 'lm_value', not "
    f'{c.family!r} with {c.head!r}.',
  )
  refuse(
    c.causal_bias and not (c.prefix and c.position == 'relative_bias'),
    'model.causal_bias=True says how far the keys of a prefix are that come '
    "after a query: it needs model.prefix=True and model.position='relative_"
    f"bias', not {c.prefix} and {c.position!r}.",
  )
  refuse(
    c.table_dim
    and c.tie_embeddings
    and not c.output_transform
    and c.head
    in ('lm', 'lm_value', 'mlm', 'mlm_nsp', 'replace_mlm', 'all_tokens_mlm'),
    f'model.tie_embeddings with a table of width model.table_dim={c.table_dim} '
    "needs model.output_transform to bring the last layer's output to that "
    'width.',
  )
  refuse(
    c.token_types and c.family not in ('encoder', 'electra'),
    f'model.token_types={c.token_types}: model.family={c.family!r} reads no '
    'token types; set it to 0.',
  )
  refuse(
    c.pooler_dropout and c.family != 'encoder',
    "model.pooler_dropout=True concerns an encoder's head: model.family="
    f'{c.family!r} has no such layer.',
  )
  refuse(
    c.head == 'span_joint' and c.token_types < 2,
    "model.head='span_joint' knows the context by its type: it needs "
    f'model.token_types=2, not {c.token_types}.',
  )
  read = c.family == 'encoder' and c.head == 'tokens'
  if c.family == 'decoder' and c.head in LABELS:
    read = c.features in ('', 'last')
  refuse(
    c.features and not read,
    f"model.features={c.features!r} concerns an encoder's head 'tokens', or as "
    f"'last' a decoder's {', '.join(LABELS)}, not {c.head!r} of {c.family!r}.",
  )
  sequence = c.family == 'encoder' and c.head in ('sequence', 'choice')
  sequence |= c.family == 'encoder_decoder' and c.head == 'sequence'
  refuse(
    not c.pooler and not sequence,
    "model.pooler=False concerns an encoder's head 'sequence' or 'choice', or "
    f"an encoder-decoder's 'sequence', not {c.head!r} of {c.family!r}.",
  )
  refuse(
    c.init == 'rwkv' and c.family != 'rwkv',
    "model.init='rwkv' describes RWKV's own weights, not those of "
    f'model.family={c.family!r}.',
  )


def _shared_stacks(c):
  """Two stacks of one depth (Raffel et al. 2020, 3.2.2)."""
  refuse(
    c.family != 'encoder_decoder',
    'model.shared_stacks=True shares the weights of two stacks: it needs '
    f"model.family='encoder_decoder', not {c.family!r}.",
  )
  refuse(
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
    refuse(
      value != off, f'model.{name} is {value!r}, but {why}: set it to {off!r}.'
    )
  if unused:
    return
  at_least(c, 0, *sizes)
  refuse(
    bool(c.generator_divisor) == bool(c.generator_dim),
    f"The generator's width is model.embed_dim / model.generator_divisor, or "
    f'model.generator_dim: set one of them, not {c.generator_divisor} and '
    f'{c.generator_dim}.',
  )
  for name in ('embed_dim', 'mlp_dim'):
    refuse(
      c.generator_divisor and getattr(c, name) % c.generator_divisor,
      f'model.generator_divisor is {c.generator_divisor}; it must divide '
      f'model.{name}, which is {getattr(c, name)}.',
    )
  refuse(
    c.mlp_dim * c.generator_dim % c.embed_dim,
    f'model.generator_dim is {c.generator_dim}; the inner width of its MLP, '
    f'model.mlp_dim / model.embed_dim = {c.mlp_dim} / {c.embed_dim} times '
    'that, must be a whole number.',
  )
  own = c.generator_sizes
  refuse(
    own['heads'] % own['kv_heads'],
    f'The generator, {own["embed_dim"]} wide, has {own["heads"]} of '
    f'model.heads and {own["kv_heads"]} of model.kv_heads; the second must '
    'divide the first: change model.generator_heads.',
  )
  unequal = [name for name, n in own.items() if n != getattr(c, name)]
  refuse(
    c.generator_shares == 'all' and unequal,
    "model.generator_shares='all' ties all weights, so the generator must be "
    'as large as the discriminator: set model.generator_divisor to 1 and '
    'generator_heads and generator_layers to 0. They differ in '
    f'{", ".join(unequal)}.',
  )
  refuse(
    c.generator == 'adversarial' and c.head not in ('rtd', 'rtd_masked'),
    "model.generator='adversarial' learns from a discriminator that detects "
    f"replaced tokens: it needs model.head='rtd' or 'rtd_masked', not "
    f'{c.head!r}.',
  )
