"""How long the pieces of an objective are, and sizes that cannot work."""

import dataclasses

import numpy as np
import pytest

from input_pipeline import config
from input_pipeline.objectives import lengths, ul2
from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.objectives.rows import batch_shapes
from input_pipeline.tokenizers.interface import check_specials
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.objectives import (
  EOS,
  PAIRS,
  UL2,
  masked_config,
  pairs_config,
  rng,
)

ONE = (('[R]', 0.15, 3.0, 1.0),)


@pytest.mark.parametrize(
  ('objective', 'changes', 'message'),
  [
    (
      'span_corruption',
      {'mean_span_length': 64.0},
      'mean_span_length=64.0 must',
    ),
    ('iid_spans', {'noise_density': 1.0}, 'data.noise_density=1.0 must lie'),
    (
      'iid_spans',
      {'target_length': 0},
      'data.target_length=0 must be at least',
    ),
    ('prefix', {'sentinels': -1}, 'data.sentinels=-1 must be at least 0'),
    ('bert_style', {'sentinels': 0}, 'data.sentinels=0 must be at least 1'),
    ('bert_style', {'random_share': 1.1}, 'data.random_share=1.1 must lie'),
    ('mass_style', {'random_share': 0.1}, 'random_share=0.1 must be 0.0: data'),
    ('ul2', {'denoisers': ()}, 'must have shares that sum to 1, not 0'),
    ('ul2', {'denoisers': UL2[1:]}, 'shares that sum to 1, not 0.87'),
    ('ul2', {'denoisers': (('[R]', 0.15, 3.0),)}, r'must have \(mode, rate'),
    (
      'ul2',
      {'denoisers': (('', 0.15, 3.0, 0.5), ('[R]', 0.15, 3.0, 0.5))},
      "must have a mode for each denoiser, or '' for all",
    ),
    ('ul2', {'denoisers': (('[R]', 1.5, 3.0, 1.0),)}, 'rate=1.5 must be above'),
    (
      'ul2',
      {'denoisers': (('[R]', 0.5, 80.0, 1.0),)},
      'mean span=80.0 must be',
    ),
    ('ul2', {'denoisers': (('[R]', 0.5, 8.0, -1.0),)}, 'share=-1.0 must be ab'),
    ('ul2', {'denoisers': (('[R]', 0.0, 8.0, 1.0),)}, 'rate=0.0 must be above'),
    ('ul2', {'denoisers': (('', 1.0, 8.0, 1.0),)}, 'rate=1.0 must be above'),
    ('ul2', {'denoisers': (('', 1.0, 'iid', 1.0),)}, 'rate=1.0 must be above'),
    ('ul2', {'denoisers': (('', 0.1, 'all', 1.0),)}, "mean span or 'iid'"),
    ('ul2', {'denoisers': (('', 'iid', 3.0, 1.0),)}, "mean span or 'iid'"),
    ('causal', {'loss_on_inputs': True}, 'loss_on_inputs=True must be False'),
    (
      'causal',
      {'denoisers': ONE},
      r'denoisers=.* must be \(\): data.objective',
    ),
  ],
)
def test_impossible_values(objective, changes, message):
  values = vars(masked_config('causal')) | {'objective': objective}
  if objective in PAIRS:
    values = vars(pairs_config(objective))
  with pytest.raises(ValueError, match=message):
    config.DataConfig(**values | changes)


@pytest.mark.parametrize(
  ('objective', 'changes', 'message'),
  [
    ('iid_spans', {'noise_density': 0.4, 'target_length': 60}, 'need 2. sen'),
    ('iid_spans', {'noise_density': 0.5}, r'data.target_length=24 has.* 48 '),
    ('drop_tokens', {'target_length': 5}, 'data.target_length=5 has no room'),
    ('ul2', {'denoisers': (('[X]', 0.5, 1.0, 1.0),)}, 'need .* data.denoisers'),
    ('ul2', {'denoisers': (('', 0.5, 'iid', 1.0),)}, 'need .* data.denoisers'),
    ('span_corruption', {'mean_span_length': 1.0, 'noise_density': 0.5},
     'need 31 sentinels.*data.mean_span_length'),
    ('bert_style', {'length': 5}, 'data.length=5 leaves no room'),
    ('ul2', {'length': 5, 'denoisers': (('[S]', 0.25, 0, 1.0),)},
     'data.length=5 must be at least 6, for a piece'),
  ],
)  # fmt: skip
def test_no_room(objective, changes, message):
  settings = pairs_config(
    objective,
    **({'sentinels': 20} if 'sentinels' not in PAIRS[objective] else {}),
    **changes,
  )
  family = 'decoder' if 'length' in changes else 'encoder_decoder'
  with pytest.raises(ValueError, match=message):
    batch_shapes(settings, family)


@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
@pytest.mark.parametrize('room', [0, 1, 5])
def test_modes_take_room(family, room):
  """Pieces fill a row after the mode: two tokens more do not fit.

  If half of the tokens are noise, T5's rule takes one token less than fits.
  """
  settings = pairs_config('ul2', length=64)
  modes = [[5] * room] * len(UL2)

  def longest(number, raw):
    """The most tokens that a row must hold, of 500 examples."""
    documents = [np.arange(3, 3 + raw, dtype=np.int32)] * 500
    ((inputs, targets),) = ul2.denoise(
      documents, rng(), UL2[number : number + 1], modes[:1], [raw],
      np.arange(299, 259, -1, np.int32), EOS, False,
    )  # fmt: skip
    sizes = (inputs != NOTHING).sum(axis=1)
    if family == 'decoder':
      sizes += (targets != NOTHING).sum(axis=1)
    return sizes.max()

  for number, raw in enumerate(lengths.raw_lengths(settings, family, modes)):
    assert 62 <= longest(number, raw) <= 64
    assert longest(number, raw + 2) > 64


@pytest.mark.parametrize(
  ('objective', 'pair', 'decoder'),
  [
    ('prefix', 61, 61),  # each token once, and two EOS
    ('drop_tokens', 62, 61),  # if nothing is dropped: one EOS, or two
    ('iid_spans', 62, 38),  # the same; a decoder's targets take 24 more
    ('bert_style', 62, 30),  # each token twice, and two EOS
    ('mass_style', 62, 30),
    ('deshuffling', 62, 30),
  ],
)
def test_pieces_are_as_long_as_a_row_allows(objective, pair, decoder):
  settings = pairs_config(objective, length=63)
  assert lengths.raw_lengths(settings, 'encoder_decoder') == (pair,)
  assert lengths.raw_lengths(settings, 'decoder') == (decoder,)
  targets = {'iid_spans': 24, 'drop_tokens': 16}.get(objective, 63)
  assert lengths.target_length(settings, 'encoder_decoder') == targets


def test_room_for_noise_that_is_drawn_token_by_token():
  """Tokens need room for the mean; runs for the mean and four deviations."""
  values = {'length': 129, 'noise_density': 0.4, 'target_length': 84}
  # 128 * 0.4 * 0.6 runs, their variance 0.28 times that, and one more.
  for sentinels in (42, 43):
    settings = pairs_config('iid_spans', **values, sentinels=sentinels)
    if sentinels == 43:
      lengths.check(settings, 'encoder_decoder')
      continue
    with pytest.raises(ValueError, match='need 43 sentinels'):
      lengths.check(settings, 'encoder_decoder')
  for room in (15, 16):  # 100 * 0.15, and EOS
    settings = pairs_config('drop_tokens', length=101, target_length=room)
    if room == 16:
      lengths.check(settings, 'encoder_decoder')
      continue
    with pytest.raises(ValueError, match='target_length=15 has no room.* 16 t'):
      lengths.check(settings, 'encoder_decoder')


@pytest.mark.parametrize('mean', [0, 2.0])
@pytest.mark.parametrize(
  ('family', 'least'), [('encoder_decoder', 5), ('decoder', 8)]
)
def test_no_room_beside_a_mode(mean, family, least):
  one = (('[X]', 0.5, mean, 1.0),)
  settings = pairs_config('ul2', length=least, denoisers=one)
  assert lengths.raw_lengths(settings, family, [[5, 6]]) == (2,)
  settings = dataclasses.replace(settings, length=least - 1)
  message = f'length={least - 1} must be at least {least}, .* mode of 2 tokens'
  with pytest.raises(ValueError, match=message):
    lengths.raw_lengths(settings, family, [[5, 6]])


def test_modes_with_the_same_ids():
  class Tokenizer(Numbers):
    def encode_batch(self, texts, threads=1):
      return [np.full(3, self.unk) for _ in texts]

  with pytest.raises(ValueError, match=r'cannot tell the modes \[R\], \[S\]'):
    ul2.mode_ids(Tokenizer(300, 40), pairs_config('ul2'))


def test_no_modes():
  """No input has one, and pieces have its room."""
  plain = tuple(('', *numbers) for _, *numbers in UL2)
  settings = pairs_config('ul2', denoisers=plain)
  tokenizer = Numbers(300, 40)
  modes = ul2.mode_ids(tokenizer, settings)
  raw = lengths.raw_lengths(settings, 'encoder_decoder', modes)
  assert raw == lengths.raw_lengths(pairs_config('ul2'), 'encoder_decoder')
  document = np.arange(100, 200, dtype=np.int32)
  for inputs, _ in ul2.denoise(
    [document], rng(), plain, modes, raw, np.arange(260, 300), 1, True
  ):
    assert inputs.shape[1] <= settings.length
    assert (inputs[:, 0] >= 100).all()


def test_missing_special_tokens():
  with pytest.raises(
    ValueError, match=r"'mlm' needs \[CLS\], \[SEP\], \[MASK\]"
  ):
    check_specials(Numbers(300, 0), masked_config('mlm'))
  with pytest.raises(ValueError, match=r'data.sentinels=40, but .* has 10'):
    check_specials(Numbers(300, 10), pairs_config('ul2'))
