"""Corruptions: token ids -> (inputs, targets), in pure NumPy.

Every function works on [N, L] arrays, N pieces of one length at a time: counts
depend on the length alone, so that all rows of a result are equally long.
"""

import functools

import numpy as np


def noise_counts(length, noise_density, mean_span_length):
  """Number of noise tokens and of noise spans in a piece of `length` tokens.

  Rounds half to even in float32, as T5's graph does. At least one token and one
  span; spans never outnumber the tokens that stay, which separate them.

  >>> noise_counts(568, 0.15, 3.0)
  (85, 28)
  """
  length = max(length, 2)
  noise = int(np.round(np.float32(length) * np.float32(noise_density)))
  noise = min(max(noise, 1), length - 1)
  spans = int(np.round(np.float32(noise) / np.float32(mean_span_length)))
  return noise, min(max(spans, 1), length - noise)


@functools.cache
def span_lengths(length, noise_density, mean_span_length):
  """Tokens of a raw piece, and of its targets, that fill inputs of `length`.

  T5's helper (objectives.md, section 4): inputs are what stays, a sentinel a
  span and EOS; targets are the noise, a sentinel a span and EOS. At density .5
  a target one token longer than the inputs is brought to their length. Raises
  ValueError when not even a piece of two tokens fits.

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


def random_segmentation(rng, rows, items, segments):
  """Lengths [rows, segments], each row a random composition of `items`.

  All C(items-1, segments-1) ways to cut a line of `items` into non-empty
  segments are equally likely: a row's cuts are the places of its smallest keys.
  A key is a random number whose low bits give way to its place, so that one
  sort, the fastest way in NumPy, orders the keys and tells their places.
  """
  gaps, cuts = items - 1, segments - 1
  keys = rng.integers(1 << 64, size=(rows * gaps + 1) // 2, dtype=np.uint64)
  keys = keys.view(np.uint32)[: rows * gaps].reshape(rows, gaps)
  low = np.uint32((1 << gaps.bit_length()) - 1)
  keys = np.sort(keys & ~low | np.arange(gaps, dtype=np.uint32), axis=1)
  bounds = np.empty([rows, segments + 1], np.int64)
  bounds[:, 0], bounds[:, -1] = 0, items
  bounds[:, 1:-1] = np.sort(keys[:, :cuts] & low, axis=1) + 1
  return np.diff(bounds, axis=1)


def span_corruption(
  tokens, rng, noise_density, mean_span_length, sentinels, eos
):
  """T5's span corruption (objectives.md, section 4, steps 4 to 8).

  tokens [N, L] -> inputs [N, L - noise + spans + 1], targets [N, noise + spans
  + 1]. Kept and dropped spans alternate, starting with a kept one. Inputs show
  a sentinel for each dropped span, targets one for each kept span, so that
  sentinel j stands in the inputs where the targets' text after sentinel j was.
  `sentinels` are ids in order of use. No sentinel closes the targets.

    tokens   Thank you for inviting me to your party last week
    inputs   Thank you <0> me to your party <1> week </s>
    targets  <0> for inviting <1> last </s>

  Raises ValueError when a piece needs more sentinels than there are.
  """
  rows, length = tokens.shape
  noise, spans = noise_counts(length, noise_density, mean_span_length)
  if spans > len(sentinels):
    raise ValueError(
      f'{spans} noise spans in a piece of {length} tokens need as many'
      f' sentinels, but data.sentinels={len(sentinels)}: raise'
      ' data.mean_span_length or lower data.length or data.noise_density.'
    )
  if length < 2:  # too short to drop anything: T5 leaves it whole
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
    return _append(text[chosen].reshape(rows, -1), eos)

  return take(~dropped, starts[:, 1::2]), take(dropped, starts[:, ::2])


def _append(tokens, eos):
  ended = np.empty([tokens.shape[0], tokens.shape[1] + 1], np.int32)
  ended[:, :-1], ended[:, -1] = tokens, eos
  return ended


def cut(documents, length, concatenate):
  """Documents (id arrays) -> pieces as [N, L] arrays, one for each length L.

  Pieces of `length` tokens come first, then the shorter last ones: one for the
  whole block when its documents are joined, as in T5, one a document if not.
  """
  if concatenate:
    documents = [np.concatenate(documents)] if documents else []
  pieces = {length: []}
  for tokens in documents:
    full = len(tokens) // length
    if full:
      pieces[length].append(tokens[: full * length].reshape(full, length))
    if rest := len(tokens) - full * length:
      pieces.setdefault(rest, []).append(tokens[None, -rest:])
  return [np.concatenate(p) for _, p in sorted(pieces.items()) if p]


def random_chunk(tokens, rng, length):
  """One of the chunks of at most `length` tokens that `tokens` falls into."""
  if len(tokens) <= length:
    return tokens
  start = length * rng.integers(-(-len(tokens) // length))
  return tokens[start : start + length]


def end(documents, eos):
  """Documents, each with EOS after it: what a decoder learns to write."""
  return [np.append(tokens, np.int32(eos)) for tokens in documents]


def frame(tokens, cls, sep):
  """[N, L] -> [N, L + 2]: [CLS] tokens [SEP] (Devlin et al. 2019, 3)."""
  framed = np.empty([tokens.shape[0], tokens.shape[1] + 2], np.int32)
  framed[:, 0], framed[:, 1:-1], framed[:, -1] = cls, tokens, sep
  return framed


def masked_counts(lengths, candidates, rate, limit):
  """How many tokens of a row are predicted (objectives.md, section 2).

  min(limit, max(1, round(length * rate))), where `lengths` [N] count [CLS] and
  [SEP]; no more than there are `candidates` [N].

  >>> masked_counts(np.array([128, 64, 3]), np.array([126, 62, 1]), 0.15, 20)
  array([19, 10,  1])
  """
  counts = np.rint(lengths * rate).astype(int)
  return np.minimum(np.clip(counts, 1, limit), candidates)


def choose(rng, maskable, counts, limit, again=False):
  """Positions to predict: counts [N] of each row's `maskable` bool [N, T].

  All are equally likely; with `again` one may be drawn several times (ELECTRA).
  Returns positions [N, limit], rising, 0 where there are no more, and which of
  them were chosen, bool [N, limit].
  """
  rows, length = maskable.shape
  if again:
    places = np.argsort(~maskable, axis=1, kind='stable')
    ranks = rng.random([rows, limit]) * maskable.sum(axis=1)[:, None]
    order = np.take_along_axis(places, ranks.astype(int), axis=1)
  else:
    keys = np.where(maskable, rng.random([rows, length]), 2)
    order = np.argsort(keys, axis=1)[:, :limit]
  chosen = np.arange(limit) < counts[:, None]
  at = np.sort(np.where(chosen, order, length), axis=1)
  return np.where(chosen, at, 0).astype(np.int32), chosen


def mask_tokens(tokens, at, chosen, rng, mask, size, masked=0.8, drawn=0.1):
  """BERT's masking (Devlin et al. 2019, 3.1): tokens [N, T] -> inputs [N, T].

  Of the `chosen` positions `at` [N, P] a share of `masked` reads [MASK], a
  share of `drawn` any of the `size` tokens there are, the rest stays. ELECTRA
  has 0.85 and 0; a position it chose twice is masked if either says so.
  """
  rows = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
  draw = rng.random(at.shape)
  other = rng.integers(size, size=at.shape)
  inputs = tokens.copy()
  for here, values in (
    (chosen & (masked <= draw) & (draw < masked + drawn), other),
    (chosen & (draw < masked), np.full(at.shape, mask)),
  ):
    inputs[rows[here], at[here]] = values[here]
  return inputs


def sentence_pairs(documents, rng, length):
  """Pairs for next-sentence prediction (Devlin et al. 2019, 3.1).

  Documents -> list of (first, second, label): ids that are at most `length`
  together, label 0 where the second comes next in the document, 1 where it is
  of another one, each half of the time. Documents are cut into pieces of
  `length`, and those at a random place.
  """
  pairs = []
  for number, tokens in enumerate(documents):
    for start in range(0, len(tokens), length):
      piece = tokens[start : start + length]
      if len(piece) < 2:
        continue
      middle = int(rng.integers(1, len(piece)))
      first, second = piece[:middle], piece[middle:]
      label = int(len(documents) > 1 and rng.random() < 0.5)
      if label:
        other = int(rng.integers(len(documents) - 1))
        other = documents[other + (other >= number)]
        place = int(rng.integers(len(other)))
        second = other[place : place + len(second)]
      pairs.append((first, second, label))
  return pairs
