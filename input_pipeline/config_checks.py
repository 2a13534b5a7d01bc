"""The rules that the keys data.* must keep.

`check` goes through them in order, and the first broken one raises ValueError
with the key, its value and what it must be. Rules that come later rely on the
earlier ones: the choices (sources, tokenizer, objective), then the numbers that
an objective needs, then what concerns batches and runs.
"""

import difflib
from typing import Any

from input_pipeline import choices, example_checks
from input_pipeline.rules import (
  DataConfig,
  at_least,
  must,
  one_of,
  require,
  share,
  unused,
)

_HINT = '; configs/ablations.py sets and clears what goes with an objective'


def check(config: DataConfig) -> None:
  """Raises ValueError, naming the key, for the first rule that is broken."""
  _sources(config)
  _tokenizer_and_objective(config)
  _sizes(config)
  _noise(config)
  if config.objective in choices.MASKED:
    _masks(config)
  example_checks.check(config)
  _denoisers(config)
  _rows(config)
  _phases(config)
  _start(config)
  _run(config)


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
    must(config, not config.source, 'source', rule)
    _mixture(config.mixture, config.rates)
  else:
    known = config.source.startswith(tuple(choices.SOURCES))
    rule = f'be {choices.either(choices.SOURCES.values())}'
    must(config, known, 'source', rule)
    text = config.source != 'synthetic' or not config.tokenizer
    rule = "be '' for data.source='synthetic', which is tokens"
    must(config, text, 'tokenizer', rule)
  _rates(config)
  must(config, config.text_field, 'text_field', 'name a field')
  kinds = *choices.FIELDS, 'cache:'  # a cache may be made of the others
  read = any(name.startswith(kinds) for _, name, _ in config.sources)
  rule = f"be 'text': only {', '.join(choices.FIELDS)} have fields"
  must(config, read or config.text_field == 'text', 'text_field', rule)


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
  one_of(config, 'rates', choices.RATES)
  plain, counted = config.rates == 'given', config.rates == 'examples'
  rule = "be 'given': there is no data.mixture"
  must(config, plain or config.mixture, 'rates', rule)
  cap, heat = config.rate_cap, config.rate_temperature
  rule = "be 0, or with data.rates='examples' the largest count"
  must(config, cap >= 0 and (counted or not cap), 'rate_cap', rule)
  rule = "be 1, or with data.rates='examples' above 0"
  must(config, heat > 0 and (counted or heat == 1), 'rate_temperature', rule)


def _tokenizer_and_objective(config):
  """The choices exist, and no key is set that they do not read."""
  one_of(config, 'objective', choices.OBJECTIVES)
  kind, kinds = config.tokenizer_kind, choices.TOKENIZERS
  near = difflib.get_close_matches(kind, kinds, 1, 0.4)
  hint = ''.join(f' (did you mean {name!r}?)' for name in near)
  one_of(config, 'tokenizer_kind', kinds, hint)
  kinds = choices.NORMALIZATIONS
  rule = f'be one of {", ".join(map(repr, kinds))}'
  must(config, config.normalization in kinds, 'normalization', rule)
  for key, kinds in choices.TOKENIZER_KEYS.items():
    if kind not in kinds:
      unused(config, key, 'tokenizer_kind')
  keys = {k for own in choices.OBJECTIVES.values() for k in sum(own, ())}
  names = {phase.objective for phase in config.plan}
  for name in sorted(names - choices.OBJECTIVES.keys()):
    known = ', '.join(choices.OBJECTIVES)
    raise ValueError(
      f'train.phases has the objective {name!r}; it must be one of {known}.'
    )
  read = {k for name in names for k in sum(choices.OBJECTIVES[name], ())}
  for key in sorted(keys - read):
    unused(config, key, 'objective', _HINT)


def _sizes(config):
  """What must be at least 1, or at least 0 where the objective allows it."""
  needed = choices.OBJECTIVES[config.objective].needed
  for key in 'batch', 'block', 'streams':
    at_least(config, key, 1)
  for key in 'sentinels', 'document_tokens', 'predictions', 'target_length':
    why = f' for data.objective={config.objective!r}{_HINT}'
    at_least(config, key, int(key in needed), why if key in needed else '')
  # [CLS] A [SEP] B [SEP] is the shortest pair of sentences.
  at_least(config, 'length', 5 if config.objective == 'sentence_pairs' else 4)
  rule = f'be at most data.length={config.length}'
  must(config, config.predictions <= config.length, 'predictions', rule)


def _noise(config):
  needed = choices.OBJECTIVES[config.objective].needed
  if 'noise_density' in needed:
    rule = 'lie between 0 and 1, both excluded'
    must(config, 0 < config.noise_density < 1, 'noise_density', rule)
  if 'mean_span_length' in needed:
    _span(config, 'mean_span_length', config.mean_span_length)
  if config.objective == 'bert_style':
    share(config, 'random_share')


def _masks(config):
  one_of(config, 'masking', choices.MASKING)
  masked = config.masked_share
  share(config, 'masked_share')
  share(config, 'random_share', round(1 - masked, 9))
  rule = 'be above 0, or data.random_share: the text would be read as it is'
  must(config, masked or config.random_share, 'masked_share', rule)
  share(config, 'short_share')
  rule = 'be 0: with data.single_sentences=True pairs have no length to fill'
  alone = config.single_sentences and config.short_share
  must(config, not alone, 'short_share', rule)
  words = not config.whole_words or config.masking != 'electra'
  rule = "be False: data.masking='electra' draws tokens one by one"
  must(config, words, 'whole_words', rule)
  must(config, config.duplicates >= 0, 'duplicates', 'be 0 or more')


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
    must(config, known, 'denoisers', rule)
    mode, rate, mean, part = denoiser
    where = f'denoisers[{number}]' + f', {mode},' * bool(mode)
    rule = 'be above 0 and below 1'
    none = ', or 0 (a prefix is read) or 1 (nothing is read)'
    rule += f' beside a mean span of {mean}' if mean else none
    possible = 0 < rate < 1 or (rate in (0, 1) and not mean)
    require(possible, f'{where} rate', rate, rule)
    require(part > 0, f'{where} share', part, 'be above 0')
    if mean and mean != choices.IID:
      _span(config, f'{where} mean span', mean)
  modes = {bool(denoiser[0]) for denoiser in config.denoisers}
  rule = "have a mode for each denoiser, or '' for all"
  must(config, len(modes) < 2, 'denoisers', rule)
  if config.objective == 'ul2':
    total = sum(part for *_, part in config.denoisers)
    rule = f'have shares that sum to 1, not {total:g}'
    must(config, abs(total - 1) < 1e-6, 'denoisers', rule)


def _rows(config):
  apart = not config.pack or config.objective != 'sentence_pairs'
  rule = "be False: data.objective='sentence_pairs' has one pair a row"
  must(config, apart, 'pack', rule)
  rule = f'be False: data.objective={config.objective!r} has one example a row'
  apart = not (config.labelled or config.preferences)
  must(config, apart or not config.pack, 'pack', rule)
  rule = 'be 0 (none) or at least 2 (every second document)'
  must(config, config.holdout == 0 or config.holdout >= 2, 'holdout', rule)
  share(config, 'max_bad_share')


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
  must(config, known, 'start', rule)
  read = not config.masks or (start, config.bos) == ('pad', -1)
  rule = f"be 'pad', and data.bos -1: {kind} does not read them"
  must(config, read, 'start', rule)
  rule = f'be a token: targets of {kind} begin with one'
  must(config, not config.pairs or start != 'none', 'start', rule)
  read = config.bos == -1 or (config.bos >= 0 and start in ('none', 'bos'))
  rule = f'be -1, or an id that data.start={start!r} reads'
  must(config, read, 'bos', rule)


def _run(config):
  for key in 'threads', 'documents', 'epochs':
    must(config, getattr(config, key) >= 0, key, 'be 0 (all) or more')


def _span(config, key, value):
  rule = f'be at least 1 token and below data.length={config.length}'
  require(1 <= value < config.length, key, value, rule)
