"""How long a raw piece may be, so that it fits a row after its corruption.

An encoder-decoder has a row for inputs and one for targets; a decoder has one
row for both, with the targets after the inputs.
"""

import functools
from collections.abc import Sequence

from input_pipeline.choices import IID
from input_pipeline.config import DataConfig
from input_pipeline.objectives import spans, t5_ablations, ul2


def raw_lengths(
  config: DataConfig, family: str, modes: Sequence[Sequence[int]] = ()
) -> tuple[int, ...]:
  """Tokens of a raw piece that fills a row: one number for each denoiser.

  Objectives without denoisers have one number. `modes` are the ids of the
  denoisers' modes; without them, modes take no room. Raises ValueError if not
  even a piece of two tokens fits.
  """
  length, together = config.length, family != 'encoder_decoder'
  match config.objective:
    case 'span_corruption' | 'ul2':
      sizes = [len(mode) for mode in modes] or [0] * len(_noises(config))
      return tuple(
        _span_length(length, size, rate, mean, together)
        for size, (rate, mean) in zip(sizes, _noises(config), strict=True)
      )
    case 'prefix':  # all tokens once, and EOS twice; an encoder-decoder's
      raw = length - 2  # row holds two pieces, see prefixes
    case 'drop_tokens':
      raw = length - (2 if together else 1)
    case 'iid_spans':
      raw = length - 1 - (config.target_length if together else 0)
    case _:  # all tokens twice, and EOS
      raw = length // 2 - 1 if together else length - 1
  if raw < 2:
    raise ValueError(
      f'data.length={length} leaves no room beside'
      f' data.target_length={config.target_length}; raise it.'
    )
  return (raw,)


def target_length(config: DataConfig, family: str) -> int:
  """Tokens in an encoder-decoder's row of targets.

  Those of span corruption have more where tasks beside it need more.
  """
  if config.objective == 'span_corruption':
    needed = spans.span_lengths(config.length, *_noises(config)[0])[1]
    return max(needed, config.target_length)
  if config.objective == 'ul2':
    pairs = zip(raw_lengths(config, family), _noises(config), strict=True)
    return max(ul2.sizes(raw, *noise)[1] for raw, noise in pairs)
  return config.target_length or config.length


def check(config: DataConfig, family: str) -> None:
  """Raises ValueError if an example has no room or too few sentinels."""
  if config.objective == 'text_to_text':
    return
  raw = raw_lengths(config, family)
  density = config.noise_density
  runs = raw[0] * density * (1 - density)
  if config.target_length and config.objective != 'span_corruption':
    tokens = raw[0] * density + (config.objective == 'iid_spans') * runs + 1
    if tokens > config.target_length:
      raise ValueError(
        f'data.target_length={config.target_length} has no room for the targets'
        f' of data.length={config.length} and data.noise_density={density},'
        f' {tokens:.0f} tokens on average: raise it.'
      )
  needed, remedy = 0, 'data.denoisers to fewer or longer spans'
  if config.objective == 'iid_spans':
    needed = t5_ablations.most_sentinels(raw[0], density)
    remedy = 'data.noise_density'
  elif config.objective in ('span_corruption', 'ul2'):
    needed = max(
      ul2.most_sentinels(length, *noise)
      for length, noise in zip(raw, _noises(config), strict=True)
    )
    if config.objective == 'span_corruption':
      remedy = 'data.noise_density, or raise data.mean_span_length'
  if needed > config.sentinels and not config.borrow_sentinels:
    raise ValueError(
      f'Rows of data.objective={config.objective!r} with data.length='
      f'{config.length} need {needed} sentinels, but data.sentinels='
      f'{config.sentinels}: raise it, or lower data.length or {remedy}. '
      'data.borrow_sentinels=True takes ordinary pieces of the vocabulary for '
      "the others, as T5's published code does."
    )


def _noises(config):
  """(rate, mean span) of each denoiser."""
  if config.objective == 'ul2':
    return tuple((rate, mean) for _, rate, mean, _ in config.denoisers)
  return ((config.noise_density, config.mean_span_length),)


@functools.cache
def _span_length(length, mode, rate, mean, together):
  """The longest piece such that it and all shorter ones fit a row.

  The row also holds `mode` tokens, the denoiser's mode; inputs and targets
  share it if `together`.
  """
  kind = 2 if together else 0
  least = mode + ul2.sizes(2, rate, mean)[kind]
  if length < least:
    raise ValueError(
      f'data.length={length} must be at least {least}, for'
      + f" a denoiser's mode of {mode} tokens," * bool(mode)
      + ' a piece of two tokens, its sentinels and EOS.'
    )
  if not together and rate == 1:  # the targets are the whole text
    return length - 1
  if not together and mean and mean != IID:
    return spans.span_lengths(length - mode, rate, mean)[0]
  raw = 2
  while ul2.sizes(raw + 1, rate, mean)[kind] <= length - mode:
    raw += 1
  return raw
