"""Features: (inputs, targets) -> the arrays one topology reads."""

import numpy as np

from input_pipeline import packing


def encoder_decoder_shapes(length, target_length):
  """Name -> (shape without the batch, dtype) of an encoder-decoder batch."""
  encoder, decoder = ((length,), np.int32), ((target_length,), np.int32)
  return {
    'encoder_inputs': encoder,
    'encoder_positions': encoder,
    'encoder_segments': encoder,
    'inputs': decoder,
    'targets': decoder,
    'positions': decoder,
    'segments': decoder,
    'weights': ((target_length,), np.float32),
    'cursor': ((4,), np.int32),
  }


def padding(shapes, rows):
  """`rows` rows of padding: zeros, and so segment 0 and weight 0.

  Rows are one int32 array [rows, W] with all arrays of a row side by side, so
  that only one is moved; split() tells them apart.
  """
  return np.zeros((rows, sum(tail[0] for tail, _ in shapes.values())), np.int32)


def split(rows, shapes):
  """Rows [rows, W] -> name -> view [rows, ...] of them; types have 4 bytes."""
  ends = np.cumsum([tail[0] for tail, _ in shapes.values()])
  return {
    name: rows[:, end - tail[0] : end].view(dtype)
    for (name, (tail, dtype)), end in zip(shapes.items(), ends, strict=True)
  }


def encoder_decoder(examples, shapes, rng, pack):
  """Examples -> rows [rows, W] of an encoder-decoder batch, in random order.

  examples is a list of (inputs [N, I], targets [N, J]) with I <= S and J <= T;
  `shapes` comes from encoder_decoder_shapes. Decoder inputs are the targets
  shifted right inside each segment, after the start id 0 (T5's pad). Segments
  count from 1, positions from 0 in each segment, weights are 1 on targets.
  """
  room = shapes['encoder_inputs'][0][0], shapes['inputs'][0][0]
  sizes = [[(i.shape[1], t.shape[1])] * len(i) for i, t in examples]
  lengths = np.array(sum(sizes, []), int).reshape(-1, 2)
  rows, offsets, segments = (
    packing.first_fit(lengths, room) if pack else packing.one_each(len(lengths))
  )
  count = rows.max(initial=-1) + 1
  whole = padding(shapes, count)
  batch = split(whole, shapes)
  first = 0
  for inputs, targets in examples:
    group = slice(first, first + len(inputs))
    first = group.stop
    shifted = np.zeros_like(targets)
    shifted[:, 1:] = targets[:, :-1]
    for stack, tokens, offset in (
      ('encoder_', {'encoder_inputs': inputs}, offsets[group, 0]),
      ('', {'inputs': shifted, 'targets': targets}, offsets[group, 1]),
    ):
      positions = np.arange(next(iter(tokens.values())).shape[1])
      if offset.any():
        place = rows[group, None], offset[:, None] + positions
      else:  # each began a row, so that they follow each other
        start = rows[group.start]
        place = slice(start, start + len(inputs)), slice(len(positions))
      for name, values in tokens.items():
        batch[name][place] = values
      batch[stack + 'positions'][place] = positions
      batch[stack + 'segments'][place] = segments[group, None]
  np.not_equal(batch['segments'], 0, out=batch['weights'], casting='unsafe')
  return whole.take(np.argsort(rng.permutation(count)), axis=0)
