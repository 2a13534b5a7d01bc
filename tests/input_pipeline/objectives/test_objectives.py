"""Every pair of objective and family: rows, sizes, odd documents."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from input_pipeline import config, pipeline, tokenizing
from input_pipeline.objectives import features, lengths, ul2
from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.sources import synthetic
from input_pipeline.tokenizers.interface import check_specials
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config
from tests.input_pipeline.objectives.test_masking import (
  make_config as masked_config,
)
from tests.input_pipeline.objectives.test_spans import restored
from tests.input_pipeline.objectives.test_t5_ablations import (
  EOS,
  lists,
  piece,
  rng,
)
from tests.input_pipeline.objectives.test_ul2 import UL2

# ---- Whole batches ----------------------------------------------------------

PAIRS = {
  'span_corruption': {'noise_density': 0.15, 'mean_span_length': 3.0},
  'prefix': {'sentinels': 0},
  'iid_spans': {'noise_density': 0.15, 'target_length': 24},
  'drop_tokens': {'noise_density': 0.15, 'target_length': 16, 'sentinels': 0},
  'bert_style': {'noise_density': 0.15, 'random_share': 0.1},
  'mass_style': {'noise_density': 0.15},
  'deshuffling': {'sentinels': 0},
  'ul2': {'denoisers': UL2},
  # The S-denoiser of the paper's code, which has no sentinel.
  'ul2 code': {'denoisers': (*UL2[:2], ('[S]', 0.0, 0.0, 0.74))},
}


def pairs_config(objective, **changes):
  values = {'noise_density': 0.0, 'mean_span_length': 0.0}
  return data_config(
    **values | {'objective': objective.split()[0]} | PAIRS[objective] | changes
  )


def examples_of(batch):
  """(inputs, targets) of every segment of a batch."""
  found = []
  for row in range(len(batch['segments'])):
    segments = batch['segments'][row]
    for segment in range(1, segments.max() + 1):
      here = segments == segment
      targets = batch['targets'][row][here]
      assert batch['inputs'][row][here].tolist() == [0, *targets[:-1]]
      assert batch['positions'][row][here].tolist() == [*range(len(targets))]
      weights = batch['weights'][row][here]
      if 'encoder_inputs' in batch:
        there = batch['encoder_segments'][row] == segment
        inputs = batch['encoder_inputs'][row][there].tolist()
        places = batch['encoder_positions'][row][there].tolist()
        assert places == [*range(len(inputs))]
        assert weights.all()
      else:
        first = int((weights == 0).sum())
        inputs = targets[:first].tolist()
        assert weights[first:].all()
        prefix = batch['prefix'][row][here].tolist()
        assert prefix == [1] * (first + 1) + [0] * (len(targets) - first - 1)
        targets = targets[first:]
      found.append((inputs, targets.tolist()))
  return found


def text_of(objective, inputs, targets, data):
  """The document's tokens in an example, in order if the example has it."""
  assert inputs[-1] == targets[-1] == data.tokenizer.eos
  sentinels = data.tokenizer.sentinels
  if objective.startswith('ul2'):
    inputs = inputs[3:]  # the modes have three bytes
  if objective == 'ul2 code' and not set(targets) & {*sentinels}:
    return inputs[:-1] + targets[:-1]
  if objective in ('span_corruption', 'ul2', 'ul2 code'):
    both = np.array(inputs), np.array(targets)
    text, unused = restored(*both, sentinels)
    assert not any(unused.values())  # one token stays whole
    return text
  if objective in ('bert_style', 'mass_style', 'deshuffling'):
    assert len(inputs) == len(targets)
    if objective == 'deshuffling':
      assert sorted(inputs) == sorted(targets)
    return targets[:-1]
  both = inputs[:-1] + targets[:-1]
  return [token for token in both if token not in sentinels]


@pytest.fixture
def small(monkeypatch):
  """192 documents without jumps in 64 files; every third is held out."""
  for name, value in (('documents', 3), ('tokens', 150), ('jump', 0.0)):
    monkeypatch.setattr(synthetic.Synthetic, name, value)

  def counts(sentinels):
    source = synthetic.Synthetic(5, 300, sentinels)
    found = np.zeros(300, int)
    for file in range(64):
      for index, (_, record) in enumerate(source.records(file, 0)):
        if index < 2:
          np.add.at(found, source.text(record), 1)
          found[EOS] += 1
    return found, source.cycle

  return counts


def epoch_of(data):
  """Batches of the first epoch of all streams; other rows are emptied."""
  for batch in data.batches(data.start(), np.arange(data.config.batch)):
    later = batch['cursor'][:, 0] > 0
    if later.all():
      return
    for name in 'segments', 'encoder_segments', 'weights':
      if name in batch:
        batch[name] = np.where(later[:, None], 0, batch[name])
    yield batch


@pytest.mark.parametrize('concatenate', [True, False])
@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder', 'rwkv'])
@pytest.mark.parametrize('objective', PAIRS)
def test_every_token_once(objective, family, concatenate, small):
  """An epoch of all streams has each token of the documents once.

  If documents are not joined, no example crosses from one to another.
  """
  settings = pairs_config(objective, concatenate=concatenate, holdout=3)
  data = pipeline.open_data(settings, 5, 300, family=family)
  expected, cycle = small(settings.sentinels)
  expected[EOS] = 0
  after = dict(itertools.pairwise([*cycle, cycle[0]]))
  found = np.zeros(300, int)
  for batch in epoch_of(data):
    shapes = {n: (x.shape[1:], x.dtype) for n, x in batch.items()}
    assert shapes == data.shapes
    for inputs, targets in examples_of(batch):
      text = text_of(objective, inputs, targets, data)
      np.add.at(found, text, 1)
      if objective in ('drop_tokens', 'iid_spans') or concatenate:
        continue
      # A document follows the cycle without a jump.
      assert all(after[a] == b for a, b in itertools.pairwise(text))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('concatenate', [True, False])
def test_every_token_once_causal(concatenate, small):
  settings = masked_config('causal', concatenate=concatenate, holdout=3)
  data = pipeline.open_data(settings, 5, 300, family='decoder')
  found = np.zeros(300, int)
  for batch in epoch_of(data):
    np.add.at(found, batch['targets'][batch['weights'] > 0], 1)
  np.testing.assert_array_equal(found, small(0)[0])


def test_a_pair_in_a_decoder():
  shapes = features.decoder_shapes(9, pairs=True)
  examples = [
    (np.array([[7, 8, EOS]]), np.array([[9, EOS]])),
    (np.array([[5, EOS]]), np.array([[6, EOS]])),
  ]
  rows = features.decoder_pairs(examples, shapes, rng(), pack=True)
  batch = features.split(rows, shapes)
  assert {n: x[0].tolist() for n, x in batch.items() if n != 'cursor'} == {
    'inputs': [0, 7, 8, EOS, 9, 0, 5, EOS, 6],
    'targets': [7, 8, EOS, 9, EOS, 5, EOS, 6, EOS],
    'positions': [0, 1, 2, 3, 4, 0, 1, 2, 3],
    'segments': [1] * 5 + [2] * 4,
    'prefix': [1, 1, 1, 1, 0, 1, 1, 1, 0],
    'weights': [0, 0, 0, 1, 1, 0, 0, 1, 1],
  }


def test_a_decoders_loss_on_inputs():
  """T5's language models of table 2 also predict the inputs.

  In Mesh TensorFlow loss_on_targets_only is False. What is read does not
  change.
  """
  settings = pairs_config('prefix')
  tokenizer, documents = Numbers(300, 40), [np.arange(9, 60)] * 9
  shapes = batch_shapes(settings, 'decoder')

  def made(config):
    rows = make_rows(documents, tokenizer, config, shapes, rng(), 'decoder')
    return features.split(rows, shapes)

  targets = made(settings)
  both = made(dataclasses.replace(settings, loss_on_inputs=True))
  np.testing.assert_array_equal(both['weights'], both['segments'] > 0)
  assert both['weights'].sum() > targets['weights'].sum() > 0
  for name in set(both) - {'weights'}:
    np.testing.assert_array_equal(both[name], targets[name])


def test_an_encoder_decoder_has_no_loss_on_inputs():
  settings = pairs_config('prefix', loss_on_inputs=True)
  with pytest.raises(ValueError, match='data.loss_on_inputs=True is for decod'):
    batch_shapes(settings, 'encoder_decoder')


def test_rows_of_unequal_examples():
  """Every example is unchanged when packed as encoder-decoder rows."""
  inputs = np.full([6, 5], NOTHING, np.int32)
  targets = np.full([6, 4], NOTHING, np.int32)
  for row in range(6):
    inputs[row, : row % 5 + 1] = 10 * row + np.arange(row % 5 + 1) + 2
    targets[row, : 4 - row % 4] = 10 * row + np.arange(4 - row % 4) + 2
  shapes = features.encoder_decoder_shapes(8, 6)
  for pack in True, False:
    rows = features.encoder_decoder([(inputs, targets)], shapes, rng(), pack)
    found = examples_of(features.split(rows, shapes))
    expected = list(zip(lists(inputs), lists(targets), strict=True))
    assert sorted(found) == sorted(expected)
    assert (len(rows) == 6) is not pack


@pytest.mark.parametrize('objective', PAIRS)
@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
def test_pieces_of_every_length_fit(objective, family):
  settings = pairs_config(objective)
  tokenizer = Numbers(300, 40)
  shapes = batch_shapes(settings, family)
  longest = max(lengths.raw_lengths(settings, family))
  documents = [piece(n, rows=1)[0] % 250 + 3 for n in range(1, longest + 5)]
  settings = pairs_config(objective, concatenate=False, pack=False)
  for seed in range(3):
    rows = make_rows(documents, tokenizer, settings, shapes, rng(seed), family)
    found = examples_of(features.split(rows, shapes))
    assert len(found) >= len(documents)


# ---- Impossible sizes -------------------------------------------------------

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
    ('prefix', {'sentinels': 1}, 'data.sentinels=1 must be 0: data.objective'),
    ('bert_style', {'sentinels': 0}, 'data.sentinels=0 must be at least 1'),
    ('bert_style', {'random_share': 1.1}, 'data.random_share=1.1 must lie'),
    ('mass_style', {'random_share': 0.1}, 'random_share=0.1 must be 0.0: data'),
    ('ul2', {'denoisers': ()}, 'must have shares that sum to 1, not 0'),
    ('ul2', {'denoisers': UL2[1:]}, 'shares that sum to 1, not 0.87'),
    ('ul2', {'denoisers': (('[R]', 0.15, 3.0),)}, r'must have \(mode, rate'),
    ('ul2', {'denoisers': (('', 0.15, 3.0, 1.0),)}, r'must have \(mode, rate'),
    ('ul2', {'denoisers': (('[R]', 1.5, 3.0, 1.0),)}, 'rate=1.5 must lie'),
    (
      'ul2',
      {'denoisers': (('[R]', 0.5, 80.0, 1.0),)},
      'mean span=80.0 must be',
    ),
    ('ul2', {'denoisers': (('[R]', 0.5, 8.0, -1.0),)}, 'share=-1.0 must be ab'),
    ('ul2', {'denoisers': (('[R]', 0.0, 8.0, 1.0),)}, 'rate=0.0 must lie betw'),
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


def test_missing_special_tokens():
  with pytest.raises(
    ValueError, match=r"'mlm' needs \[CLS\], \[SEP\], \[MASK\]"
  ):
    check_specials(Numbers(300, 0), masked_config('mlm'))
  with pytest.raises(ValueError, match=r'data.sentinels=40, but .* has 10'):
    check_specials(Numbers(300, 10), pairs_config('ul2'))


# ---- Odd documents ----------------------------------------------------------

ODD = [
  'word',
  'x ' * 500_000,
  'y' * 1_000_000,
  '',
  '\0\0\0',
  ' \n ',
  'One. Two.',
]


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
  folder = tmp_path_factory.mktemp('odd')
  lines = [json.dumps({'text': text}) for text in ODD]
  (folder / 'a.json').write_text('\n'.join([*lines, '{"text": 5}']))
  return f'json:{folder}/a.json'


class NoSpaces(Numbers):
  """A byte is an id, except for spaces: blank text has no token."""

  def __init__(self):
    super().__init__(300, 20, specials=True)

  def encode_batch(self, texts, threads=1):
    return [
      np.frombuffer(t, np.uint8)[np.frombuffer(t, np.uint8) > 32].astype(
        np.int32
      )
      for t in texts
    ]


@pytest.mark.parametrize(
  ('objective', 'family'),
  [
    ('causal', 'decoder'),
    ('prefix', 'decoder'),
    ('span_corruption', 'encoder_decoder'),
    ('ul2', 'encoder_decoder'),
    ('mlm', 'encoder'),
    ('sentence_pairs', 'encoder'),
    ('full_sentences', 'encoder'),
  ],
)
def test_odd_documents(odd, objective, family, monkeypatch, capsys):
  """Each document is read, or skipped, counted and reported; none is lost."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: NoSpaces())
  make = pairs_config if objective in PAIRS else masked_config
  settings = make(objective, source=odd, max_bad_share=0.01, holdout=0)
  if objective in ('span_corruption', 'ul2'):
    settings = make(
      objective, source=odd, max_bad_share=0.01, holdout=0, sentinels=20,
      document_tokens=0 if objective == 'ul2' else 2_000_000,
    )  # fmt: skip
  data = pipeline.open_data(settings, 5, 300, odd, family=family)
  total = 0
  for batch in data.evaluation(np.arange(16), 16):
    if not batch['weights'].any():
      break
    total += int((batch['targets'] > 32).sum())
  if objective == 'causal':
    assert total == sum(len(t.replace(' ', '').strip('\0\n')) for t in ODD)
  assert data.report() == {'documents': 8, 'skipped': 4}
  said = capsys.readouterr().out
  for line, reason in ((4, 'no text'), (5, 'no token'), (6, 'no token')):
    assert f'line {line}' in said
    assert reason in said


@pytest.mark.parametrize('objective', ['causal', 'sentence_pairs'])
def test_a_source_without_rows(objective, tmp_path, monkeypatch):
  """The source is refused, instead of being read for ever."""
  pytest.importorskip('tensorflow')
  monkeypatch.setattr(tokenizing, 'prepare', lambda *_: NoSpaces())
  (tmp_path / 'a.json').write_text('{"text": " "}')
  (tmp_path / 'b.json').write_text('{"text": "words"}')
  source = f'json:{tmp_path}/a.json'
  settings = masked_config(objective, source=source, max_bad_share=1.0)
  family = 'decoder' if objective == 'causal' else 'encoder'
  other = f'json:{tmp_path}/b.json'
  data = pipeline.open_data(settings, 5, 300, other, family=family)
  with pytest.raises(ValueError, match='data.source=.* no row in .* epochs'):
    next(data.batches(data.start(), np.arange(16)))
