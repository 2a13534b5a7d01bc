"""Phases: batches that grow, and rows that change, lose and repeat nothing."""

import itertools

import numpy as np
import pytest

from configs.phases import make_plan, ramp
from input_pipeline import choices, pipeline
from input_pipeline.streams.assembly import Turns
from tests.helpers.corpora import assert_same
from tests.helpers.mixtures import VOCABULARY, mixed
from tests.helpers.objectives import PAIRS, masked_config, pairs_config

STREAMS = 4
PADDED = 24  # rows of every global batch here, with padding


def moved(batch, cursor):
  """The cursors after a batch, as the training step computes them."""
  cursor = cursor.copy()
  real = batch['last_of'] < STREAMS
  cursor[batch['last_of'][real]] = batch['cursor'][real]
  return cursor


def run(data, steps, start=0, cursor=None, rows=None):
  """Batches of steps start + 1 to `steps`, and the cursor after each."""
  cursor = data.start() if cursor is None else cursor
  rows = np.arange(PADDED) if rows is None else rows
  found, step = [], start
  for phase, own in data.phases():
    last = steps if phase.last is None else min(steps, phase.last)
    if step >= last:
      continue
    taken = phase.counts(step)['rows']
    for batch in itertools.islice(
      own.batches(cursor, rows, taken=taken), last - step
    ):
      if len(rows) == PADDED:
        cursor = moved(batch, cursor)
      found.append((batch, cursor))
    step = last
  return found


@pytest.mark.parametrize(
  ('objective', 'family'),
  [
    *((o, 'encoder_decoder') for o in ('span_corruption', 'prefix', 'ul2')),
    *((o, 'decoder') for o in ('causal', 'deshuffling')),
    *((o, 'encoder') for o in choices.MASKED),
  ],
)
def test_every_switch_resumed_on_hosts(sources, objective, family):
  """Batches are the same resumed within a phase, at a switch, and in parts.

  They are no multiples of the streams, and rows change in the middle of chunks.
  """
  make = pairs_config if objective in PAIRS else masked_config
  some = 4 if objective in choices.MASKED else 0
  phases = (
    (('steps', 2), 6, 48, some, ''),
    (('rows', 33), 7, 0, 0, ''),
    (('steps', 6), 10, 56, some, ''),
  )
  settings = make(
    objective, source='', mixture=mixed(sources), tokenizer_kind='bytes',
    holdout=10, batch=18, phases=phases,
  )  # fmt: skip
  if objective == 'ul2':
    settings = pairs_config(
      objective, source='', mixture=mixed(sources), tokenizer_kind='bytes',
      holdout=10, batch=18, phases=phases, sentinels=30,
    )  # fmt: skip
  data = pipeline.open_data(settings, 5, VOCABULARY, family=family)
  whole = run(data, 9)
  sizes = [(batch['segments'] > 0).any(axis=1).sum() for batch, _ in whole]
  assert sizes == [6, 6, 7, 7, 7, 10, 18, 18, 18]
  for step in 1, 2, 7:
    ((found, at),) = run(data, step + 1, step, whole[step - 1][1])
    batch, expected = whole[step]
    assert_same(found, batch)
    np.testing.assert_array_equal(at, expected)
  cursor = whole[3][1]
  for part in np.split(np.arange(PADDED), 2):
    for (found, _), (batch, _) in zip(
      run(data, 5, 4, cursor, part), whole[4:5], strict=True
    ):
      assert_same(found, {name: x[part] for name, x in batch.items()})


@pytest.mark.parametrize('start', ['none', 'eos'])
def test_every_token_once_over_all_switches(sources, start):
  """An epoch through four switches reads each token that an epoch has once."""
  phases = (
    (('steps', 1), STREAMS, 40, 0, ''),  # the first row alone of every stream
    (('steps', 3), 8, 32, 0, ''),
    (('steps', 5), 12, 80, 0, ''),
    (('steps', 8), 5, 24, 0, 'prefix' if start == 'eos' else ''),
  )
  settings = masked_config(
    'causal', source=f'json:{sources}/a*.gz', tokenizer_kind='bytes',
    batch=16, epochs=1, start=start, pack=True, phases=phases,
    concatenate=start == 'none', holdout=10, length=64,
  )  # fmt: skip
  data = pipeline.open_data(settings, 5, VOCABULARY, family='decoder')
  found = np.zeros(VOCABULARY, int)
  with pytest.raises(ValueError, match='epochs=1'):
    count_targets(data, found)
  expected = np.zeros(VOCABULARY, int)
  (corpus,) = data.corpora
  reader = corpus.reader(settings.block)
  chunks = 0
  for file in range(len(corpus.source.files)):
    for number in itertools.count():
      records = reader.read(file, number)
      if records is None:
        break
      chunks += 1
      for ids in corpus.documents_of(file, records, data.tokenizer):
        np.add.at(expected, ids, 1)
  specials = list(data.tokenizer.specials)
  found[specials] = expected[specials] = 0
  if start == 'eos':
    np.testing.assert_array_equal(found, expected)
  else:  # windows: the first token of what is cut together is only read
    assert (expected - found).min() >= 0
    assert (expected - found).sum() == chunks + 4 * STREAMS


def count_targets(data, found):
  """Counts the targets of all batches into `found`, until the data end."""
  cursor, step = data.start(), 0
  for phase, own in data.phases():
    batches = own.batches(
      cursor, np.arange(PADDED), taken=phase.counts(step)['rows']
    )
    while phase.last is None or step < phase.last:
      batch = next(batches)
      read = batch['targets'][batch['segments'] > 0]
      np.add.at(found, read, 1)
      cursor, step = moved(batch, cursor), step + 1


def test_streams_take_turns():
  """Row n of a run is of stream n mod streams, whatever the batches."""
  for batch, streams, taken in [(5, 4, 3), (3, 8, 2), (8, 4, 1), (7, 7, 6)]:
    turns = Turns(batch, streams, taken)
    for number in range(9):
      first = taken + number * batch
      expected = np.bincount(
        np.arange(first, first + batch) % streams, minlength=streams
      )
      np.testing.assert_array_equal(turns.shares(number), expected)
      rows = np.arange(batch)
      of, places = turns.places(number, rows)
      assert sorted(of) == of.tolist()
      for stream in range(streams):
        own = places[of == stream]
        np.testing.assert_array_equal(own, np.arange(expected[stream]))
        last = np.flatnonzero(turns.last_of(number, rows) == stream)
        assert last.tolist() == np.flatnonzero(of == stream)[-1:].tolist()


def test_batches_of_any_size(sources):
  """No batch need be a multiple of the streams; all rows come in order."""
  make = {'source': f'json:{sources}/a*.gz', 'tokenizer_kind': 'bytes'}
  whole = {}
  for batch in (16, 5):
    settings = masked_config('causal', **make, batch=batch, holdout=10)
    data = pipeline.open_data(settings, 5, VOCABULARY, family='decoder')
    rows = [[] for _ in range(STREAMS)]
    turns = Turns(batch, STREAMS)
    batches = data.batches(data.start(), np.arange(batch))
    for number, made in enumerate(itertools.islice(batches, 160 // batch)):
      for row, stream in enumerate(turns.places(number, np.arange(batch))[0]):
        rows[stream].append(made['targets'][row])
    whole[batch] = np.array(rows)
  np.testing.assert_array_equal(whole[16], whole[5])


def test_ramps_as_megatron():
  """BLOOM's batches over its first rows (Megatron-LM's rampup-batch-size)."""
  plan = make_plan(ramp('rows', 9_765_625, 192, 2048, 16), 2048, 2048)
  sizes = np.repeat(
    [phase.batch for phase in plan],
    [(phase.last or phase.first + 100) - phase.first for phase in plan],
  )
  rows = 0
  for size in sizes.tolist():
    assert size == min(192 + int(rows / (9_765_625 / 116)) * 16, 2048)
    rows += size
  assert len(sizes) == 12_658 + 100
