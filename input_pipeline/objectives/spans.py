"""T5's span corruption (Raffel et al. 2020, 3.1.4): ids -> inputs, targets."""

import functools

import numpy as np

from input_pipeline.objectives.pieces import end_rows


def noise_counts(
  length: int, noise_density: float, mean_span_length: float
) -> tuple[int, int]:
  """Number of noise tokens and of noise spans in a piece of `length` tokens.

  Rounds half to even in float32, as T5's graph does. There is at least one
  token and one span; the tokens that stay separate the spans, so there are at
  least as many.

  >>> noise_counts(568, 0.15, 3.0)
  (85, 28)
  """
  length = max(length, 2)
  noise = int(np.round(np.float32(length) * np.float32(noise_density)))
  noise = min(max(noise, 1), length - 1)
  spans = int(np.round(np.float32(noise) / np.float32(mean_span_length)))
  return noise, min(max(spans, 1), length - noise)


@functools.cache
def span_lengths(
  length: int, noise_density: float, mean_span_length: float
) -> tuple[int, int]:
  """Tokens of a raw piece, and of its targets, that fill inputs of `length`.

  T5's published helper (compute_input_and_target_lengths): inputs are the
  tokens that stay, a sentinel for each span, and EOS; targets are the noise, a
  sentinel for each span, and EOS. At density .5, targets one token longer than
  the inputs are shortened to their length. Counts are rounded in float32, as in
  T5's graph; the helper rounds in float64, and so cuts targets at a few lengths
  (172 at .15 and 3). Raises ValueError if not even a piece of two tokens fits.

  >>> span_lengths(512, 0.15, 3.0)
  (568, 114)
  """

  def after(raw):
    noise, spans = noise_counts(raw, noise_density, mean_span_length)
    return raw - noise + spans + 1, noise + spans + 1

  raw = length
  while raw >= 2 and after(raw)[0] > length:
    raw -= 1
  if raw < 2:
    raise ValueError(
      f'data.length={length} leaves no room for a piece of two tokens, its'
      ' sentinel and EOS; raise it.'
    )
  while after(raw + 1)[0] <= length:
    raw += 1
  targets = after(raw)[1]
  if noise_density == 0.5 and targets > length:
    return raw - 1, targets - 1
  return raw, targets


def random_segmentation(
  rng: np.random.Generator, rows: int, items: int, segments: int
) -> np.ndarray:
  """Lengths [rows, segments], each row a random composition of `items`.

  All C(items-1, segments-1) ways to cut a line of `items` into non-empty
  segments are equally likely: the cuts are at the places of the smallest keys.
  A key is a random number whose low bits are replaced by its place. One sort,
  the fastest way in NumPy, then gives the places in random order. Keys have 64
  bits if there are many places, so that enough bits are random.

    items 7   segments 3   cuts after 2 and 5   ->   2 3 2
  """
  gaps, cuts = items - 1, segments - 1
  kind = np.uint32 if gaps < 4096 else np.uint64
  count = rows * gaps if kind is np.uint64 else (rows * gaps + 1) // 2
  keys = rng.integers(1 << 64, size=count, dtype=np.uint64)
  keys = keys.view(kind)[: rows * gaps].reshape(rows, gaps)
  low = kind((1 << gaps.bit_length()) - 1)
  keys = np.sort(keys & ~low | np.arange(gaps, dtype=kind), axis=1)
  bounds = np.empty([rows, segments + 1], np.int64)
  bounds[:, 0], bounds[:, -1] = 0, items
  bounds[:, 1:-1] = np.sort(keys[:, :cuts] & low, axis=1) + 1
  return np.diff(bounds, axis=1)


def span_corruption(
  tokens: np.ndarray,
  rng: np.random.Generator,
  noise_density: float,
  mean_span_length: float,
  sentinels: np.ndarray,
  eos: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Span corruption, as in T5's published code.

  tokens [N, L] -> inputs [N, L - noise + spans + 1], targets [N, noise + spans
  + 1]. Kept and dropped spans alternate, starting with a kept one. Inputs show
  a sentinel for each dropped span, targets one for each kept span: the text
  after sentinel j in the targets belongs in the place of sentinel j in the
  inputs. `sentinels` are ids in order of use. No sentinel ends the targets.

    tokens   Thank you for inviting me to your party last week
    inputs   Thank you <0> me to your party <1> week </s>
    targets  <0> for inviting <1> last </s>

  Raises ValueError if a piece needs more sentinels than there are.
  """
  rows, length = tokens.shape
  noise, spans = noise_counts(length, noise_density, mean_span_length)
  if spans > len(sentinels):
    raise ValueError(
      f'{spans} noise spans in a piece of {length} tokens need as many'
      f' sentinels, but data.sentinels={len(sentinels)}: raise'
      ' data.mean_span_length or lower data.length or data.noise_density.'
    )
  if length < 2:  # too short to drop anything: T5 keeps it whole
    ends = np.tile(np.int32([sentinels[0], eos]), [rows, 1])
    return np.hstack([tokens, ends[:, 1:]]), ends

  lengths = np.empty([rows, 2 * spans], np.int64)
  lengths[:, ::2] = random_segmentation(rng, rows, length - noise, spans)
  lengths[:, 1::2] = random_segmentation(rng, rows, noise, spans)
  starts = np.cumsum(lengths, axis=1) - lengths
  starts += np.arange(rows)[:, None] * length  # places in the flat tokens
  dropped = np.repeat(np.arange(2 * spans * rows) % 2 == 1, lengths.ravel())

  def take(chosen, marked):
    text, chosen = tokens.ravel().copy(), chosen.copy()
    text[marked], chosen[marked] = sentinels[:spans], True
    return end_rows(text[chosen].reshape(rows, -1), eos)

  return take(~dropped, starts[:, 1::2]), take(dropped, starts[:, ::2])
