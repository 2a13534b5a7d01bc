"""Corruptions: token ids -> (inputs, targets), in pure NumPy.

T5's span corruption and the objectives it was compared with (Raffel et al.
2020, 3.3, and its published code). Every function works on [N, L]
arrays, N pieces of one length at a time, and ends inputs and targets with EOS.
Where the rows of a result are not equally long, NOTHING follows the shorter
ones.
"""

import functools

import numpy as np

NOTHING = -1  # in the place of a token, where a row of an array has ended


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

  As T5's published helper: inputs are what stays, a sentinel a span and EOS;
  targets are the noise, a sentinel a span and EOS. At density .5 a target one
  token longer than the inputs is brought to their length. Counts are rounded as
  T5's graph rounds them, in float32; the helper does so in float64, and so cuts
  targets at a few lengths (172 at .15 and 3). Raises ValueError when not even a
  piece of two tokens fits.

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
  sort, the fastest way in NumPy, orders the keys and tells their places. Where
  places are many, keys have 64 bits: of 32 too few would be left to chance.
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
  tokens, rng, noise_density, mean_span_length, sentinels, eos
):
  """T5's span corruption (Raffel et al. 2020, 3.1.4; the published code).

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


def line_up(tokens, chosen, before, after):
  """The `chosen` tokens of each row between two lists of ids.

  tokens, chosen [N, L] -> [N, I], where I is the longest row's length.

    tokens 5 6 7   chosen 1 0 1   before 2   after 1   ->   2 5 7 1
           8 9 4          0 1 0                             2 9 1 -1
  """
  counts = chosen.sum(axis=1)[:, None]
  width = len(before) + counts.max(initial=0) + len(after)
  lines = np.full([len(tokens), width], NOTHING, np.int32)
  lines[:, : len(before)] = before
  places = np.arange(width) - len(before)
  lines[(places >= 0) & (places < counts)] = tokens[chosen]
  closing = (counts <= places) & (places < counts + len(after))
  lines[closing] = np.tile(np.array(after, np.int32), len(tokens))
  return lines


def prefix_lm(tokens, rng, eos, kept=None):
  """The first part of a piece, and the rest to predict.

  tokens [N, L]; the first part has `kept` [N] tokens, or 1 to L - 1, each
  number equally likely. A piece of one token is all target.

    tokens   Thank you for inviting me
    inputs   Thank you </s>
    targets  for inviting me </s>
  """
  rows, length = tokens.shape
  if kept is None:
    kept = rng.integers(1, length, size=rows) if length > 1 else np.zeros(rows)
  first = np.arange(length) < kept[:, None]
  return line_up(tokens, first, [], [eos]), line_up(tokens, ~first, [], [eos])


def iid_spans(tokens, rng, noise_density, sentinels, eos, target_length):
  """Noise drawn token by token, each run of it replaced by a sentinel.

  tokens [N, L]. Inputs show a sentinel for each run of noise, targets one for
  each run that is kept, numbered apart, as T5's code has it.

    tokens   Thank you for inviting me to your party
    noise      0    1   0     1     1  0   0     0
    inputs   Thank <0> for <1> to your party </s>
    targets  <0> you <1> inviting me <2> </s>

  Noise that would take the targets beyond `target_length` or a run beyond the
  sentinels there are is kept, so that nothing is lost; T5 cuts it off.
  """
  noise = rng.random(tokens.shape) < noise_density
  used = np.cumsum(noise | run_starts(~noise), axis=1)
  runs = np.cumsum(run_starts(noise), axis=1)
  # One more run that is kept, and EOS, may follow.
  noise &= (used <= target_length - 2) & (runs < len(sentinels))
  return (
    replace_runs(tokens, noise, sentinels, eos),
    replace_runs(tokens, ~noise, sentinels, eos),
  )


def run_starts(chosen):
  """Where runs begin: bool [N, L], 0 1 1 0 1 -> 0 1 0 0 1."""
  starts = chosen.copy()
  starts[:, 1:] &= ~chosen[:, :-1]
  return starts


def replace_runs(tokens, chosen, sentinels, eos):
  """Each run of `chosen` becomes one sentinel: [N, L] -> [N, I].

  tokens 5 6 7 8   chosen 0 1 1 0   ->   5 <0> 8 </s>
  """
  starts = run_starts(chosen)
  number = np.cumsum(starts, axis=1) - 1
  marked = np.where(starts, sentinels[number], tokens)
  return line_up(marked, starts | ~chosen, [], [eos])


def drop_tokens(tokens, rng, noise_density, eos, target_length):
  """Noise drawn token by token and left out; the targets are what was.

    tokens   Thank you for inviting me to your party
    inputs   Thank for to your party </s>
    targets  you inviting me </s>

  Noise beyond `target_length` is kept.
  """
  noise = rng.random(tokens.shape) < noise_density
  noise &= np.cumsum(noise, axis=1) < target_length
  return line_up(tokens, ~noise, [], [eos]), line_up(tokens, noise, [], [eos])


def bert_style(
  tokens, rng, noise_density, random_share, sentinel, ordinary, eos
):
  """Noise drawn token by token and masked; the targets are the whole text.

  A share of the noise reads any of the `ordinary` ids, the rest the one
  `sentinel`. MASS-style is the same with a share of 0.

    tokens   Thank you for inviting me to your party
    inputs   Thank <0> for <0> apple to your party </s>
    targets  Thank you for inviting me to your party </s>
  """
  noise = rng.random(tokens.shape) < noise_density
  other = rng.random(tokens.shape) < random_share
  drawn = ordinary[rng.integers(len(ordinary), size=tokens.shape)]
  inputs = np.where(noise, np.where(other, drawn, sentinel), tokens)
  return _append(inputs, eos), _append(tokens, eos)


def deshuffling(tokens, rng, eos):
  """A piece in random order; the targets are the piece.

  tokens   Thank you for inviting me
  inputs   me for Thank inviting you </s>
  targets  Thank you for inviting me </s>
  """
  return _append(rng.permuted(tokens, axis=1), eos), _append(tokens, eos)


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


def windows(documents, length, concatenate):
  """Documents -> pieces of `length` tokens, as cut(), and the ids before them.

  A piece and the token before it are a window of length + 1 tokens, whose last
  token is the first of the next window: every token but the first of a block
  (or of a document, where these are not joined) is in one piece. Returns the
  pieces and int32 [N], in their order.

  >>> pieces, before = windows([np.array([5, 6, 7, 1])], 2, True)
  >>> [piece.tolist() for piece in pieces], before.tolist()
  ([[[1]], [[6, 7]]], [7, 5])
  """
  if concatenate:
    documents = [np.concatenate(documents)] if documents else []
  pieces = cut([tokens[1:] for tokens in documents], length, False)
  before = cut([tokens[:-1] for tokens in documents], length, False)
  return pieces, np.concatenate([p[:, 0] for p in before] or [np.zeros(0, int)])


def random_chunk(tokens, rng, length):
  """One of the chunks of at most `length` tokens that `tokens` falls into."""
  if len(tokens) <= length:
    return tokens
  start = length * rng.integers(-(-len(tokens) // length))
  return tokens[start : start + length]


def end(documents, eos):
  """Documents, each with EOS after it: what a decoder learns to write."""
  return [np.append(tokens, np.int32(eos)) for tokens in documents]
