"""The rules that the keys data.* must keep.

`check` goes through them in order, and the first broken one raises ValueError
with the key, its value and what it must be. Rules that come later rely on the
earlier ones: the choices (sources, tokenizer, objective), then the numbers that
an objective needs, then what concerns batches and runs.
"""

import difflib
from typing import Any

from input_pipeline import choices

DataConfig = Any  # config.DataConfig, whose file imports this one
_HINT = '; configs/ablations.py sets and clears what goes with an objective'


def check(config: DataConfig) -> None:
  """Raises ValueError, naming the key, for the first rule that is broken."""
  _sources(config)
  _tokenizer_and_objective(config)
  _sizes(config)
  _noise(config)
  if config.objective in choices.MASKED:
    _masks(config)
  if config.labelled:
    _labelled(config)
  _preferences(config)
  _denoisers(config)
  _rows(config)
  _phases(config)
  _start(config)
  _run(config)


def require(holds: object, key: str, value: Any, rule: str) -> None:
  """Raises ValueError 'data.KEY=VALUE must RULE.' unless `holds` is true."""
  if not holds:
    raise ValueError(f'data.{key}={value!r} must {rule}.')


def all_set(config: DataConfig) -> None:
  """No key is without a value. The config runs this before its defaults."""
  for key, value in vars(config).items():
    require(value is not None, key, value, 'be set')


def mixture_pairs(mixture: Any) -> tuple[tuple[str, float], ...]:
  """data.mixture as tuples, though JSON gives lists; () where there is none."""
  try:
    pairs = tuple((str(name), float(rate)) for name, rate in mixture)
  except (TypeError, ValueError):
    pairs = ()
  require(pairs or not mixture, 'mixture', mixture, 'be pairs (source, rate)')
  return pairs


def _sources(config):
  if config.mixture:
    rule = "be '' beside data.mixture, which names all sources"
    _must(config, not config.source, 'source', rule)
    _mixture(config.mixture, config.rates)
  else:
    known = config.source.startswith(tuple(choices.SOURCES))
    rule = f'be {choices.either(choices.SOURCES.values())}'
    _must(config, known, 'source', rule)
    text = config.source != 'synthetic' or not config.tokenizer
    rule = "be '' for data.source='synthetic', which is tokens"
    _must(config, text, 'tokenizer', rule)
  _rates(config)
  _must(config, config.text_field, 'text_field', 'name a field')
  kinds = *choices.FIELDS, 'cache:'  # a cache may be made of the others
  read = any(name.startswith(kinds) for _, name, _ in config.sources)
  rule = f"be 'text': only {', '.join(choices.FIELDS)} have fields"
  _must(config, read or config.text_field == 'text', 'text_field', rule)


def _mixture(mixture, rates):
  kinds = {k: v for k, v in choices.SOURCES.items() if k != 'synthetic'}
  for n, (name, rate) in enumerate(mixture):
    key = f'mixture[{n}]'
    rule = f'be {choices.either(kinds.values())}'
    require(name.startswith(tuple(kinds)), key, name, rule)
    if rates == 'given':
      positive = 0 < rate < float('inf')
      require(positive, key, (name, rate), 'have a rate above 0')
    else:
      counted = 0 <= rate < float('inf')
      require(counted, key, (name, rate), 'have a count of examples, or 0')
  names = [name for name, _ in mixture]
  again = [name for name in names if names.count(name) > 1]
  rule = 'name a source once, with all of its rate'
  require(not again, 'mixture', again, rule)
  total = sum(rate for _, rate in mixture)
  rule = f'have rates whose sum is 1, not {total:.9g}'
  one = rates != 'given' or abs(total - 1) <= 1e-6
  require(one, 'mixture', mixture, rule)


def _rates(config):
  """How the numbers of a mixture are read."""
  _one_of(config, 'rates', choices.RATES)
  plain, counted = config.rates == 'given', config.rates == 'examples'
  rule = "be 'given': there is no data.mixture"
  _must(config, plain or config.mixture, 'rates', rule)
  cap, heat = config.rate_cap, config.rate_temperature
  rule = "be 0, or with data.rates='examples' the largest count"
  _must(config, cap >= 0 and (counted or not cap), 'rate_cap', rule)
  rule = "be 1, or with data.rates='examples' above 0"
  _must(config, heat > 0 and (counted or heat == 1), 'rate_temperature', rule)


def _tokenizer_and_objective(config):
  """The choices exist, and no key is set that they do not read."""
  _one_of(config, 'objective', choices.OBJECTIVES)
  kind, kinds = config.tokenizer_kind, choices.TOKENIZERS
  near = difflib.get_close_matches(kind, kinds, 1, 0.4)
  hint = ''.join(f' (did you mean {name!r}?)' for name in near)
  _one_of(config, 'tokenizer_kind', kinds, hint)
  kinds = choices.NORMALIZATIONS
  rule = f'be one of {", ".join(map(repr, kinds))}'
  _must(config, config.normalization in kinds, 'normalization', rule)
  for key, kinds in choices.TOKENIZER_KEYS.items():
    if kind not in kinds:
      _unused(config, key, 'tokenizer_kind')
  keys = {k for own in choices.OBJECTIVES.values() for k in sum(own, ())}
  names = {phase.objective for phase in config.plan}
  for name in sorted(names - choices.OBJECTIVES.keys()):
    known = ', '.join(choices.OBJECTIVES)
    raise ValueError(
      f'train.phases has the objective {name!r}; it must be one of {known}.'
    )
  read = {k for name in names for k in sum(choices.OBJECTIVES[name], ())}
  for key in sorted(keys - read):
    _unused(config, key, 'objective', _HINT)


def _sizes(config):
  """What must be at least 1, or at least 0 where the objective allows it."""
  needed = choices.OBJECTIVES[config.objective].needed
  for key in 'batch', 'block', 'streams':
    _at_least(config, key, 1)
  for key in 'sentinels', 'document_tokens', 'predictions', 'target_length':
    why = f' for data.objective={config.objective!r}{_HINT}'
    _at_least(config, key, int(key in needed), why if key in needed else '')
  # [CLS] A [SEP] B [SEP] is the shortest pair of sentences.
  _at_least(config, 'length', 5 if config.objective == 'sentence_pairs' else 4)
  rule = f'be at most data.length={config.length}'
  _must(config, config.predictions <= config.length, 'predictions', rule)


def _noise(config):
  needed = choices.OBJECTIVES[config.objective].needed
  if 'noise_density' in needed:
    rule = 'lie between 0 and 1, both excluded'
    _must(config, 0 < config.noise_density < 1, 'noise_density', rule)
  if 'mean_span_length' in needed:
    _span(config, 'mean_span_length', config.mean_span_length)
  if config.objective == 'bert_style':
    _share(config, 'random_share')


def _masks(config):
  _one_of(config, 'masking', choices.MASKING)
  share = config.masked_share
  _share(config, 'masked_share')
  _share(config, 'random_share', round(1 - share, 9))
  rule = 'be above 0, or data.random_share: the text would be read as it is'
  _must(config, share or config.random_share, 'masked_share', rule)
  _share(config, 'short_share')
  rule = 'be 0: with data.single_sentences=True pairs have no length to fill'
  alone = config.single_sentences and config.short_share
  _must(config, not alone, 'short_share', rule)
  words = not config.whole_words or config.masking != 'electra'
  rule = "be False: data.masking='electra' draws tokens one by one"
  _must(config, words, 'whole_words', rule)
  _must(config, config.duplicates >= 0, 'duplicates', 'be 0 or more')


def _labelled(config):
  _one_of(config, 'framing', choices.FRAMING)
  task = config.source.startswith('task:')
  rule = f"be 'task:NAME': data.objective={config.objective!r} reads labels"
  _must(config, task, 'source', rule)
  if config.phases:
    raise ValueError(
      f'train.phases must be (): data.objective={config.objective!r} reads the '
      'examples of a task, which has one phase.'
    )
  kinds = choices.ORDERS
  rule = f'be one of {", ".join(map(repr, kinds))}'
  _must(config, config.orders in kinds, 'orders', rule)
  if config.objective == 'choice':
    _at_least(config, 'choices', 2)
  if config.objective == 'regression':
    rule = 'be above 0; 1 leaves labels as they are'
    _must(config, config.label_scale > 0, 'label_scale', rule)


def _preferences(config):
  """Preferences and their objectives need each other."""
  for key, name, _ in config.sources:
    found = name.startswith('preferences:')
    if found != config.preferences:
      objectives = choices.either(choices.PREFERENCES)
      raise ValueError(
        f'{key}={name!r} does not suit data.objective={config.objective!r}: '
        f"sources 'preferences:GLOB' are for {objectives}, and these for such "
        'sources alone.'
      )
  if config.preferences and config.phases:
    raise ValueError(
      f'train.phases must be (): data.objective={config.objective!r} has one '
      'phase.'
    )


def _denoisers(config):
  for number, denoiser in enumerate(config.denoisers):
    known = (
      isinstance(denoiser, tuple)
      and len(denoiser) == 4
      and isinstance(denoiser[0], str)
      and all(
        isinstance(value, int | float)
        for place, value in enumerate(denoiser)
        if place and (place, value) != (2, choices.IID)
      )
    )
    rule = "have (mode, rate, mean span or 'iid', share) for each denoiser"
    _must(config, known, 'denoisers', rule)
    mode, rate, mean, share = denoiser
    where = f'denoisers[{number}]' + f', {mode},' * bool(mode)
    rule = 'be above 0 and below 1'
    none = ', or 0 (a prefix is read) or 1 (nothing is read)'
    rule += f' beside a mean span of {mean}' if mean else none
    possible = 0 < rate < 1 or (rate in (0, 1) and not mean)
    require(possible, f'{where} rate', rate, rule)
    require(share > 0, f'{where} share', share, 'be above 0')
    if mean and mean != choices.IID:
      _span(config, f'{where} mean span', mean)
  modes = {bool(denoiser[0]) for denoiser in config.denoisers}
  rule = "have a mode for each denoiser, or '' for all"
  _must(config, len(modes) < 2, 'denoisers', rule)
  if config.objective == 'ul2':
    total = sum(share for *_, share in config.denoisers)
    rule = f'have shares that sum to 1, not {total:g}'
    _must(config, abs(total - 1) < 1e-6, 'denoisers', rule)


def _rows(config):
  apart = not config.pack or config.objective != 'sentence_pairs'
  rule = "be False: data.objective='sentence_pairs' has one pair a row"
  _must(config, apart, 'pack', rule)
  rule = f'be False: data.objective={config.objective!r} has one example a row'
  apart = not (config.labelled or config.preferences)
  _must(config, apart or not config.pack, 'pack', rule)
  rule = 'be 0 (none) or at least 2 (every second document)'
  _must(config, config.holdout == 0 or config.holdout >= 2, 'holdout', rule)
  _share(config, 'max_bad_share')


def _phases(config):
  """Each phase keeps all rules, and text is read alike in all of them."""
  plan = config.plan
  for number, phase in enumerate(plan[:-1]):
    try:
      own = config.at(phase)  # runs all rules
    except ValueError as error:
      raise ValueError(f'train.phases[{number}]: {error}') from None
    kinds = {_reads(x) for x in (own, config)}
    if len(kinds) > 1:
      raise ValueError(
        f'train.phases[{number}] has the objective {own.objective!r}, which '
        f'reads {_reads(own)}, but data.objective={config.objective!r} '
        f'reads {_reads(config)}: one run cannot do both.'
      )
  if config.scored and config.kind_count > 1:
    raise ValueError(
      'train.phases change the rows of data.mixture, but the examples of its '
      'tasks have one length: change the batch alone, or leave the tasks out.'
    )


def _reads(config: DataConfig) -> str:
  """What an objective reads, in words."""
  if config.labelled:
    return 'the labels of a task'
  return 'sentences' if config.sentences else 'text without sentences'


def _start(config):
  start, kind = config.start, f'data.objective={config.objective!r}'
  known = start in choices.STARTS or str(start).isdecimal()
  rule = f'be one of {", ".join(choices.STARTS)}, or the id of a token'
  _must(config, known, 'start', rule)
  read = not config.masks or (start, config.bos) == ('pad', -1)
  rule = f"be 'pad', and data.bos -1: {kind} does not read them"
  _must(config, read, 'start', rule)
  rule = f'be a token: targets of {kind} begin with one'
  _must(config, not config.pairs or start != 'none', 'start', rule)
  read = config.bos == -1 or (config.bos >= 0 and start in ('none', 'bos'))
  rule = f'be -1, or an id that data.start={start!r} reads'
  _must(config, read, 'bos', rule)


def _run(config):
  for key in 'threads', 'documents', 'epochs':
    _must(config, getattr(config, key) >= 0, key, 'be 0 (all) or more')


# Parts of rules.


def _must(config, holds, key, rule):
  require(holds, key, getattr(config, key), rule)


def _one_of(config, key, names, hint=''):
  rule = f'be one of {", ".join(names)}{hint}'
  _must(config, getattr(config, key) in names, key, rule)


def _unused(config, key, choice, hint=''):
  """A key that the chosen objective or tokenizer does not read is unset."""
  value = getattr(config, key)
  rule = f'be {type(value)()!r}: data.{choice}={getattr(config, choice)!r}'
  _must(config, not value, key, f'{rule} does not read it{hint}')


def _at_least(config, key, least, why=''):
  _must(config, getattr(config, key) >= least, key, f'be at least {least}{why}')


def _share(config, key, most=1.0):
  rule = f'lie between 0 and {most:g}'
  _must(config, 0 <= getattr(config, key) <= most, key, rule)


def _span(config, key, value):
  rule = f'be at least 1 token and below data.length={config.length}'
  require(1 <= value < config.length, key, value, rule)
