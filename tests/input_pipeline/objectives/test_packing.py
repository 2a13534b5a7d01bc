"""Examples stay whole, rows full, segments and positions right."""

import numpy as np
import pytest

from input_pipeline.objectives import features, packing

SHAPES = features.encoder_decoder_shapes(16, 8)


def examples(sizes):
  """Examples of the given (inputs, targets) lengths, all tokens distinct."""
  start, made = 10, []
  for count, inputs, targets in sizes:
    both = np.arange(start, start + count * (inputs + targets), dtype=np.int32)
    both = both.reshape(count, -1)
    start += both.size
    made.append((both[:, :inputs], both[:, inputs:]))
  return made


SIZES = [(3, 16, 8), (5, 5, 2), (4, 7, 3), (6, 2, 2), (2, 16, 2), (1, 3, 8)]


def check_places(lengths, capacity, places):
  """Examples are whole and side by side; segments count from 1."""
  rows, offsets, segments = places
  for row in range(rows.max() + 1):
    (here,) = np.nonzero(rows == row)
    here = here[np.argsort(segments[here])]
    assert segments[here].tolist() == list(range(1, len(here) + 1))
    ends = np.cumsum(lengths[here], axis=0)
    np.testing.assert_array_equal(offsets[here], ends - lengths[here])
    assert (ends[-1] <= capacity).all()


@pytest.mark.parametrize('capacity', [(16, 8), (16, 0)])
def test_best_fit(capacity):
  """Replays the packing, longest first.

  Each example is in the row where it leaves least room, and begins a row only
  if no other row has room.
  """
  rng = np.random.default_rng(0)
  capacity = np.array(capacity)
  lengths = rng.integers([1, 1], [17, 9], size=(200, 2)) * (capacity > 0)
  places = packing.best_fit(lengths, capacity, rng)
  check_places(lengths, capacity, places)
  scale = 1 / np.maximum(capacity, 1)
  longest = (lengths * scale).max(axis=1)
  room, begun = {}, 0
  for n in sorted(range(200), key=lambda n: -longest[n]):
    row = places[0][n]
    left = {r: x - lengths[n] for r, x in room.items()}
    left = {r: x @ scale for r, x in left.items() if (x >= 0).all()}
    if row in room:
      assert left[row] == min(left.values())
    else:
      assert not left
      room[row], begun = capacity, begun + 1
    room[row] = room[row] - lengths[n]
  assert begun > 50


def test_any_example_may_be_the_first_of_a_row():
  """The longest, which is placed first, is not always first in its row."""
  rng = np.random.default_rng(0)
  lengths = np.stack([rng.integers(1, 17, 4000), np.zeros(4000, int)], axis=1)
  rows, _, segments = packing.best_fit(lengths, (16, 0), rng)
  order = np.lexsort([segments, rows])
  two = np.bincount(rows) == 2
  pairs = lengths[order, 0][two[rows[order]]].reshape(-1, 2)
  longer = pairs[:, 0] > pairs[:, 1]
  unlike = pairs[:, 0] != pairs[:, 1]
  assert unlike.sum() > 500
  share, spread = longer[unlike].mean(), 0.5 / unlike.sum() ** 0.5
  assert share == pytest.approx(0.5, abs=4 * spread)


def test_groups_share_a_row():
  lengths = np.array([[9, 1], [2, 2], [7, 3], [3, 2], [7, 2], [1, 1]])
  rng, groups = np.random.default_rng(0), np.array([0, 1, 0, 1, 2, 2])
  places = packing.best_fit(lengths, (16, 8), rng, groups)
  check_places(lengths, (16, 8), places)
  assert places[0].tolist() == [0, 1, 0, 1, 1, 1]


def test_full_rows_keep_their_order():
  rng = np.random.default_rng(0)
  rows, offsets, segments = packing.best_fit([[16, 8]] * 50, (16, 8), rng)
  assert rows.tolist() == list(range(50))
  assert not offsets.any()
  assert (segments == 1).all()
  assert [len(x) for x in packing.best_fit([], (16, 8), rng)] == [0, 0, 0]


def unpacked(batch):
  """(inputs, targets) of every segment, checking all that belongs to it."""
  found = []
  for row in range(len(batch['inputs'])):
    segments = batch['segments'][row]
    encoder_segments = batch['encoder_segments'][row]
    for segment in range(1, segments.max() + 1):
      here, there = segments == segment, encoder_segments == segment
      targets = batch['targets'][row][here]
      inputs = batch['encoder_inputs'][row][there]
      for places in np.flatnonzero(here), np.flatnonzero(there):
        assert np.ptp(places) == len(places) - 1  # in one piece
      shifted = [0, *targets[:-1]]
      assert batch['inputs'][row][here].tolist() == shifted
      assert batch['positions'][row][here].tolist() == [*range(len(targets))]
      assert batch['encoder_positions'][row][there].tolist() == [
        *range(len(inputs))
      ]
      found.append((tuple(inputs.tolist()), tuple(targets.tolist())))
  return sorted(found)


def rows_of(pack):
  made = examples(SIZES)
  rng = np.random.default_rng(0)
  rows = features.encoder_decoder(made, SHAPES, rng, pack)
  batch = features.split(rows, SHAPES)
  for name, (tail, dtype) in SHAPES.items():
    assert batch[name].dtype == dtype
    assert batch[name].shape[1:] == tail
  expected = sorted(
    (tuple(i.tolist()), tuple(t.tolist()))
    for inputs, targets in made
    for i, t in zip(inputs, targets, strict=True)
  )
  assert unpacked(batch) == expected
  np.testing.assert_array_equal(batch['weights'], batch['segments'] > 0)
  for name, array in batch.items():
    stack = 'encoder_segments' if 'encoder' in name else 'segments'
    if name != 'cursor':
      assert not array[batch[stack] == 0].any()
  return batch


def test_packed_rows():
  batch = rows_of(pack=True)
  assert len(batch['inputs']) < 21
  assert batch['segments'].max() > 1


def test_one_example_a_row():
  batch = rows_of(pack=False)
  assert len(batch['inputs']) == 21
  assert batch['segments'].max() == 1


def test_no_examples():
  rows = features.encoder_decoder([], SHAPES, np.random.default_rng(0), True)
  assert len(rows) == 0
