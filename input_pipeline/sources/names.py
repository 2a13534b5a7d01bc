"""How sources are named in a config: their kinds, and what is checked."""

SOURCES = (
  *('json:', 'parquet:', 'tfds:', 'text:', 'textfile:', 'cache:'),
  *('docs', 'synthetic'),
)
MIXED = (
  'json:GLOB, parquet:GLOB, tfds:NAME[@SPLIT], text:GLOB, textfile:GLOB,'
  ' cache:DIR or docs'
)
KINDS = MIXED.replace(' or docs', ', docs or synthetic')
FIELDS = ('json:', 'parquet:', 'tfds:')  # they have data.text_field


def check(config, require):
  """Checks the names of a DataConfig's sources; returns its mixture as tuples.

  require(holds, key, value, rule) raises ValueError of a key of data.*.
  """
  field = config.text_field
  require(field, 'text_field', field, 'name a field')
  pairs = _mixture(config, require) if config.mixture else ()
  if not pairs:
    require(
      config.source.startswith(SOURCES), 'source', config.source, f'be {KINDS}'
    )
    require(
      config.source != 'synthetic' or not config.tokenizer, 'tokenizer',
      config.tokenizer, "be '' for data.source='synthetic', which is tokens",
    )  # fmt: skip
  names = [name for name, _ in pairs] or [config.source]
  kinds = *FIELDS, 'cache:'  # which may have been made of those
  require(
    field == 'text' or any(name.startswith(kinds) for name in names),
    'text_field', field, f"be 'text': only {', '.join(FIELDS)} have fields",
  )  # fmt: skip
  return pairs


def _mixture(config, require):
  """The pairs (source, rate) of data.mixture."""
  try:
    pairs = tuple((str(name), float(rate)) for name, rate in config.mixture)
  except (TypeError, ValueError):
    pairs = ()
  require(pairs, 'mixture', config.mixture, 'be pairs (source, rate)')
  require(
    not config.source, 'source', config.source,
    "be '' beside data.mixture, which names all sources",
  )  # fmt: skip
  for n, (name, rate) in enumerate(pairs):
    require(
      name.startswith(SOURCES) and name != 'synthetic', f'mixture[{n}]',
      name, f'be {MIXED}',
    )  # fmt: skip
    require(
      0 < rate < float('inf'), f'mixture[{n}]', (name, rate),
      'have a rate above 0',
    )  # fmt: skip
  names = [name for name, _ in pairs]
  again = [name for name in names if names.count(name) > 1]
  require(
    not again, 'mixture', again, 'name a source once, with all of its rate'
  )
  total = sum(rate for _, rate in pairs)
  require(
    abs(total - 1) <= 1e-6, 'mixture', pairs,
    f'have rates whose sum is 1, not {total:.9g}',
  )  # fmt: skip
  return pairs
