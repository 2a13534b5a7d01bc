"""Examples stay whole, rows full, segments and positions right."""

import numpy as np

from input_pipeline import features, packing

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


def test_first_fit():
  rng = np.random.default_rng(0)
  lengths = rng.integers([1, 1], [17, 9], size=(200, 2))
  rows, offsets, segments = packing.first_fit(lengths, (16, 8))
  for row in range(rows.max() + 1):
    (here,) = np.nonzero(rows == row)
    assert segments[here].tolist() == list(range(1, len(here) + 1))
    ends = np.cumsum(lengths[here], axis=0)
    np.testing.assert_array_equal(offsets[here], ends - lengths[here])
    assert (ends[-1] <= (16, 8)).all()
    # First fit: none of the later examples found room in an earlier row.
    for example in here:
      for earlier in range(row):
        before = (rows == earlier) & (np.arange(200) < example)
        used = lengths[before].sum(0) + lengths[example]
        assert (used > (16, 8)).any()


def test_full_rows_are_taken_in_order():
  rows, offsets, segments = packing.first_fit([[16, 8]] * 50, (16, 8))
  assert rows.tolist() == list(range(50))
  assert not offsets.any()
  assert (segments == 1).all()
  assert [len(x) for x in packing.first_fit([], (16, 8))] == [0, 0, 0]


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
