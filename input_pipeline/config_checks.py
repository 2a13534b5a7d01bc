"""The rules that the keys data.* must keep: one function a rule.

`check` runs them in the order of RULES, and the first broken one raises
ValueError with the key, its value and what it must be. Rules that come later
rely on the earlier ones: values first, then the choices (sources, tokenizer,
objective), then the numbers that an objective needs, then what concerns
batches and runs.
"""

import dataclasses
import difflib
from typing import Any

from input_pipeline import choices

DataConfig = Any  # config.DataConfig, whose file imports this one
_HINT = '; configs/ablations.py sets and clears what goes with an objective'


def check(config: DataConfig) -> None:
  """Raises ValueError, naming the key, for the first rule that is broken."""
  for rule in RULES:
    rule(config)


def require(holds: object, key: str, value: Any, rule: str) -> None:
  """Raises ValueError 'data.KEY=VALUE must RULE.' unless `holds` is true."""
  if not holds:
    raise ValueError(f'data.{key}={value!r} must {rule}.')


def all_set(config: DataConfig) -> None:
  """No key is without a value. The config runs this before its defaults."""
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    require(value is not None, field.name, value, 'be set')


def mixture_pairs(mixture: Any) -> tuple[tuple[str, float], ...]:
  """data.mixture as tuples, though JSON gives lists; () where there is none."""
  try:
    pairs = tuple((str(name), float(rate)) for name, rate in mixture)
  except (TypeError, ValueError):
    pairs = ()
  require(pairs or not mixture, 'mixture', mixture, 'be pairs (source, rate)')
  return pairs


# Sources.


def _source(config):
  if config.mixture:
    require(
      not config.source, 'source', config.source,
      "be '' beside data.mixture, which names all sources",
    )  # fmt: skip
    return
  require(
    config.source.startswith(tuple(choices.SOURCES)), 'source', config.source,
    f'be {choices.either(choices.SOURCES.values())}',
  )  # fmt: skip
  require(
    config.source != 'synthetic' or not config.tokenizer, 'tokenizer',
    config.tokenizer, "be '' for data.source='synthetic', which is tokens",
  )  # fmt: skip


def _mixture(config):
  kinds = {k: v for k, v in choices.SOURCES.items() if k != 'synthetic'}
  for n, (name, rate) in enumerate(config.mixture):
    key = f'mixture[{n}]'
    rule = f'be {choices.either(kinds.values())}'
    require(name.startswith(tuple(kinds)), key, name, rule)
    if config.rates == 'given':
      positive = 0 < rate < float('inf')
      require(positive, key, (name, rate), 'have a rate above 0')
    else:
      counted = 0 <= rate < float('inf')
      require(counted, key, (name, rate), 'have a count of examples, or 0')
  names = [name for name, _ in config.mixture]
  again = [name for name in names if names.count(name) > 1]
  require(
    not again, 'mixture', again, 'name a source once, with all of its rate'
  )
  total = sum(rate for _, rate in config.mixture)
  require(
    not names or config.rates != 'given' or abs(total - 1) <= 1e-6,
    'mixture', config.mixture,
    f'have rates whose sum is 1, not {total:.9g}',
  )  # fmt: skip


def _rates(config):
  rates, cap, heat = config.rates, config.rate_cap, config.rate_temperature
  _one_of(config, 'rates', choices.RATES)
  require(
    rates == 'given' or config.mixture, 'rates', rates,
    "be 'given': there is no data.mixture",
  )  # fmt: skip
  counted = rates == 'examples'
  require(
    cap >= 0 and (counted or not cap), 'rate_cap', cap,
    "be 0, or with data.rates='examples' the largest count",
  )  # fmt: skip
  require(
    heat > 0 and (counted or heat == 1), 'rate_temperature', heat,
    "be 1, or with data.rates='examples' above 0",
  )  # fmt: skip


def _text_field(config):
  field = config.text_field
  require(field, 'text_field', field, 'name a field')
  names = [name for _, name, _ in config.sources]
  kinds = *choices.FIELDS, 'cache:'  # a cache may be made of the others
  require(
    field == 'text' or any(name.startswith(kinds) for name in names),
    'text_field', field,
    f"be 'text': only {', '.join(choices.FIELDS)} have fields",
  )  # fmt: skip


# Choices.


def _objective(config):
  _one_of(config, 'objective', choices.OBJECTIVES)


def _tokenizer_kind(config):
  kind, kinds = config.tokenizer_kind, choices.TOKENIZERS
  near = difflib.get_close_matches(kind, kinds, 1, 0.4)
  hint = ''.join(f' (did you mean {name!r}?)' for name in near)
  _one_of(config, 'tokenizer_kind', kinds, hint)


def _normalization(config):
  kinds, value = choices.NORMALIZATIONS, config.normalization
  rule = f'be one of {", ".join(map(repr, kinds))}'
  require(value in kinds, 'normalization', value, rule)


def _keys_of_the_tokenizer(config):
  for key, kinds in choices.TOKENIZER_KEYS.items():
    if config.tokenizer_kind not in kinds:
      _unused(config, key, 'tokenizer_kind')


def _keys_of_the_objective(config):
  keys = {k for own in choices.OBJECTIVES.values() for k in sum(own, ())}
  own = choices.OBJECTIVES[config.objective]
  for key in sorted(keys.difference(own.needed, own.optional)):
    _unused(config, key, 'objective', _HINT)


def _start(config):
  start, objective = config.start, config.objective
  require(
    start in choices.STARTS or str(start).isdecimal(), 'start', start,
    f'be one of {", ".join(choices.STARTS)}, or the id of a token',
  )  # fmt: skip
  require(
    not config.masks or (start, config.bos) == ('pad', -1), 'start', start,
    f"be 'pad', and data.bos -1: data.objective={objective!r} does not read"
    ' them',
  )  # fmt: skip
  require(
    not config.pairs or start != 'none', 'start', start,
    f'be a token: targets of data.objective={objective!r} begin with one',
  )  # fmt: skip
  require(
    config.bos == -1 or (config.bos >= 0 and start in ('none', 'bos')),
    'bos', config.bos, f'be -1, or an id that data.start={start!r} reads',
  )  # fmt: skip


# Numbers.


def _sizes(config):
  """What must be at least 1, or at least 0 where the objective allows it."""
  needed = choices.OBJECTIVES[config.objective].needed
  for key in 'batch', 'block', 'streams':
    _at_least(config, key, 1)
  for key in 'sentinels', 'document_tokens', 'predictions', 'target_length':
    why = f' for data.objective={config.objective!r}{_HINT}'
    _at_least(config, key, int(key in needed), why if key in needed else '')


def _length(config):
  # [CLS] A [SEP] B [SEP] is the shortest pair of sentences.
  _at_least(config, 'length', 5 if config.objective == 'sentence_pairs' else 4)
  require(
    config.predictions <= config.length, 'predictions', config.predictions,
    f'be at most data.length={config.length}',
  )  # fmt: skip


def _noise(config):
  needed = choices.OBJECTIVES[config.objective].needed
  require(
    'noise_density' not in needed or 0 < config.noise_density < 1,
    'noise_density', config.noise_density,
    'lie between 0 and 1, both excluded',
  )  # fmt: skip
  if 'mean_span_length' in needed:
    _span(config, 'mean_span_length', config.mean_span_length)
  if config.objective == 'bert_style':
    _share(config, 'random_share')


def _masks(config):
  if config.objective not in choices.MASKED:
    return
  _one_of(config, 'masking', choices.MASKING)
  require(
    0 < config.masked_share <= 1, 'masked_share', config.masked_share,
    'be above 0 and at most 1',
  )  # fmt: skip
  _share(config, 'random_share', round(1 - config.masked_share, 9))
  _share(config, 'short_share')
  require(
    not config.whole_words or config.masking != 'electra',
    'whole_words', config.whole_words,
    "be False: data.masking='electra' draws tokens one by one",
  )  # fmt: skip
  require(
    config.duplicates >= 0, 'duplicates', config.duplicates, 'be 0 or more'
  )


def _labelled(config):
  if not config.labelled:
    return
  _one_of(config, 'framing', choices.FRAMING)
  tasks = all(name.startswith('task:') for _, name, _ in config.sources)
  require(
    tasks and not config.mixture, 'source', config.source,
    f"be 'task:NAME': data.objective={config.objective!r} reads labels",
  )  # fmt: skip
  require(not config.curriculum, 'curriculum', config.curriculum, 'be ()')
  if config.objective == 'choice':
    _at_least(config, 'choices', 2)
  if config.objective == 'regression':
    scale = config.label_scale
    require(
      scale > 0, 'label_scale', scale, 'be above 0 (1: labels as they are)'
    )


def _denoisers(config):
  for denoiser in config.denoisers:
    require(
      isinstance(denoiser, tuple)
      and len(denoiser) == 4
      and denoiser[0]
      and isinstance(denoiser[0], str)
      and all(isinstance(number, int | float) for number in denoiser[1:]),
      'denoisers', config.denoisers,
      'have (mode, rate, mean span, share) for each denoiser',
    )  # fmt: skip
    mode, rate, mean, share = denoiser
    where = f'denoisers, {mode}:'
    require(
      0 < rate < 1 or (rate == 0 and not mean), f'{where} rate', rate,
      'lie between 0 and 1, or be 0 beside a mean span of 0',
    )  # fmt: skip
    require(share > 0, f'{where} share', share, 'be above 0')
    if mean:
      _span(config, f'{where} mean span', mean)
  total = sum(share for *_, share in config.denoisers)
  require(
    config.objective != 'ul2' or abs(total - 1) < 1e-6,
    'denoisers', config.denoisers,
    f'have shares that sum to 1, not {total:g}',
  )  # fmt: skip


# Batches and runs.


def _pack(config):
  require(
    not config.pack or config.objective != 'sentence_pairs', 'pack',
    config.pack,
    "be False: data.objective='sentence_pairs' has one pair a row",
  )  # fmt: skip
  require(
    not config.pack or not config.labelled, 'pack', config.pack,
    f'be False: data.objective={config.objective!r} has one example a row',
  )  # fmt: skip


def _holdout(config):
  require(
    config.holdout == 0 or config.holdout >= 2, 'holdout', config.holdout,
    'be 0 (none) or at least 2 (every second document)',
  )  # fmt: skip


def _bad_share(config):
  _share(config, 'max_bad_share')


def _curriculum(config):
  phases = config.curriculum
  require(
    all(
      isinstance(phase, tuple)
      and [*map(type, phase)] == [float, int, int]
      and 0 < phase[0] < 1
      for phase in phases
    )
    and sum(phase[0] for phase in phases) < 1,
    'curriculum', phases,
    'hold (share of the steps, length, predictions) each, and the shares must'
    ' leave some to data.length',
  )  # fmt: skip
  for _, length, predictions in phases:
    sizes = {'length': length, 'predictions': predictions}
    dataclasses.replace(config, curriculum=(), **sizes)  # runs all rules


def _counts(config):
  for key in 'threads', 'documents', 'epochs':
    value = getattr(config, key)
    require(value >= 0, key, value, 'be 0 (all) or more')


def _streams(config):
  require(
    config.batch % config.streams == 0, 'batch', config.batch,
    f'be a multiple of data.streams={config.streams}',
  )  # fmt: skip


# Parts of rules.


def _one_of(config, key, names, hint=''):
  value = getattr(config, key)
  require(value in names, key, value, f'be one of {", ".join(names)}{hint}')


def _unused(config, key, choice, hint=''):
  """A key that the chosen objective or tokenizer does not read is unset."""
  value = getattr(config, key)
  rule = f'be {type(value)()!r}: data.{choice}={getattr(config, choice)!r}'
  require(not value, key, value, f'{rule} does not read it{hint}')


def _at_least(config, key, least, why=''):
  value = getattr(config, key)
  require(value >= least, key, value, f'be at least {least}{why}')


def _share(config, key, most=1.0):
  value = getattr(config, key)
  require(0 <= value <= most, key, value, f'lie between 0 and {most:g}')


def _span(config, key, value):
  require(
    1 <= value < config.length, key, value,
    f'be at least 1 token and below data.length={config.length}',
  )  # fmt: skip


RULES = (
  *(_source, _rates, _mixture, _text_field),
  *(_objective, _tokenizer_kind, _normalization),
  *(_keys_of_the_tokenizer, _keys_of_the_objective),
  *(_sizes, _length, _noise, _masks, _labelled, _denoisers),
  *(_pack, _holdout, _bad_share, _curriculum, _start, _counts, _streams),
)
