"""Between texts and the arrays that `models.decoding` reads and writes."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.chat.messages import Prompt, check, is_chat, last_words
from input_pipeline.chat.templates import Template
from input_pipeline.config import DataConfig
from input_pipeline.objectives.chats import asked
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
from models.positions import check_places

SENTINEL = r'<extra_id_\d+>'
ROOM = 64  # a cache has room for so many written tokens, or a multiple of it


def first_examples(batch: dict[str, jax.Array], rows: int) -> dict:
  """The first example of each of the first rows, as `decode` reads it.

  Rows of padding come last: a stream may hold out no document.

  Returns:
    'source' and 'targets', int [rows,S] and [rows,T]; 'segments' and
    'target_segments', 1 where these have a token. The source of a decoder is
    the inputs of a pair, or else the first half of a text.
  """
  empty = jnp.all(batch['segments'] == 0, axis=1)
  first = jnp.argsort(empty)[:rows]  # padding last, the others in their order
  batch = {name: x[first] for name, x in batch.items()}
  own = answered = batch['segments'] == 1
  if 'encoder_inputs' in batch:
    read = batch['encoder_segments'] == 1
    source = jnp.where(read, batch['encoder_inputs'], 0)
  else:
    places = jnp.arange(own.shape[1])
    taken = jnp.sum(own, axis=1, keepdims=True) // 2 + 1
    if 'prefix' in batch:
      taken = jnp.sum(own * batch['prefix'], axis=1, keepdims=True)
    taken = jnp.where(jnp.any(own, axis=1, keepdims=True), taken, 0)
    at = places + taken - own.shape[1]
    read = at >= 0  # the source is padded on the left
    source = jnp.take_along_axis(batch['inputs'], jnp.maximum(at, 0), axis=1)
    source = jnp.where(read, source, 0)
    answered = own & (places >= taken - 1)
  return {
    'source': source,
    'segments': read.astype('int32'),
    'targets': jnp.where(answered, batch['targets'], 0),
    'target_segments': answered.astype('int32'),
  }


def encode(
  tokenizer: Any,
  texts: list[str],
  length: int,
  family: str,
  pairs: bool,
  start: int | None,
  mode: str = '',
  sentinels: Sequence[int] = (),
) -> dict[str, np.ndarray]:
  """Texts -> 'source', 'segments' [B,S], as `decode` reads them.

  As in training, a decoder's text begins with the id `start`, if not None, and
  the inputs of `pairs` of inputs and targets end with EOS. UL2's `mode` stands
  before the text, with tokens of its own; `sentinels` are those of `text_ids`.
  Raises ValueError for a text that is too long, is empty, or has an unknown
  sentinel.
  """
  decoder = family != 'encoder_decoder'
  before = (start,) if decoder and start is not None else ()
  if mode:
    before = (*before, *_ids(tokenizer, mode))
  after = (tokenizer.eos,) if pairs else ()
  beside = len(before) + len(after)
  rows = []
  for text in texts:
    ids = text_ids(tokenizer, text, sentinels)
    if not 0 < len(ids) <= length - beside:
      raise ValueError(
        f'The text {text[:60]!r} has {len(ids)} tokens; it needs one, and at '
        f'most {length - beside} beside what ends or begins it (data.length).'
      )
    rows.append([*before, *ids, *after])
  source, segments = padded(rows, length, left=decoder)
  return {'source': source, 'segments': segments}


def encode_chat(
  tokenizer: Any,
  prompt: Prompt,
  longest: int,
  pair: bool,
  start: int | None,
  template: Template,
) -> np.ndarray:
  """A chat -> its ids up to the answer; see chats.asked.

  Raises ValueError if a message is empty, a turn is out of order, or the chat
  has more than `longest` tokens.
  """
  said = prompt
  if not is_chat(prompt):
    said = [{'role': 'user', 'content': prompt}]
  name = f'The prompt {last_words(prompt)[:60]!r}'
  check(said, name, answered=False)
  found = asked(said, template, tokenizer, start, pair)
  if len(found) > longest:
    raise ValueError(
      f'{name} has {len(found)} tokens as a chat; there is room for {longest}'
      ' (data.length).'
    )
  return found


def padded(
  rows: list[Sequence[int]], length: int, left: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of ids -> ids and segments [B,length], 0 where there is padding."""
  ids, segments = np.zeros((2, len(rows), length), np.int32)
  for n, row in enumerate(rows):
    place = slice(length - len(row), length) if left else slice(len(row))
    ids[n, place], segments[n, place] = row, 1
  return ids, segments


def row_width(tokens: int, config: TransformerConfig, narrowest: int) -> int:
  """The width of the row for so many tokens: `narrowest` times a power of 2.

  It has no more tokens than the model has positions. Raises ValueError if they
  are too few.
  """
  width = max(narrowest, 1 << (tokens - 1).bit_length())
  return min(width, check_places(tokens, config) or width)


def answer_width(length: int) -> int:
  """The room of a cache for so many tokens that are written.

  Answers of nearly the same length share a program.
  """
  return -(-length // ROOM) * ROOM


def settled(text: str, stop: Sequence[str]) -> str:
  """The part of a text that goes on which no later token can change.

  It has no half of a character and no beginning of a stop string at its end.
  """
  text = text.rstrip('\ufffd')
  for string in stop:
    for n in range(min(len(string) - 1, len(text)), 0, -1):
      if text.endswith(string[:n]):
        text = text[:-n]
        break
  return text


def text_ids(
  tokenizer: Any, text: str, sentinels: Sequence[int] = ()
) -> np.ndarray:
  """Ids of a text, in which `<extra_id_0>` and so on are sentinels.

  `sentinels` are the ids of all of them, if a run has more than the tokenizer
  (data.borrow_sentinels). Raises ValueError for a sentinel that is unknown.
  """
  own, parts, last = len(tokenizer.sentinels), [], 0
  for name in re.finditer(rf' ?{SENTINEL}', text):
    number = _number(name[0])
    if own <= number < len(sentinels):
      part = _ids(tokenizer, text[last : name.start()])
      parts += [part, np.int32(sentinels[number : number + 1])]
      last = name.end()
  borrowed = len(parts) // 2
  parts.append(_ids(tokenizer, text[last:]))
  found = sum(
    int(np.isin(ids, tokenizer.sentinels).sum()) for ids in parts[::2]
  )
  given = len(re.findall(SENTINEL, text))
  if found + borrowed != given:
    count = max(own, len(sentinels))
    raise ValueError(
      f'The text {text[:60]!r} has {given} sentinels, of which the tokenizer '
      f'knows {found + borrowed}; it has '
      + (f'<extra_id_0> to <extra_id_{count - 1}>.' if count else 'none.')
    )
  return np.concatenate(parts)


def _ids(tokenizer, text):
  if tokenizer.reads_sentinels:  # where a word could begin
    spaced = re.sub(rf'(?<=[^ ])({SENTINEL})', r' \1', text)
    return tokenizer.encode_batch([spaced.encode()])[0]
  parts = re.split(rf' ?({SENTINEL})', text)
  ids = tokenizer.encode_batch([part.encode() for part in parts[::2]])
  for n, sentinel in enumerate(parts[1::2]):
    number = _number(sentinel)
    ids.insert(2 * n + 1, tokenizer.sentinels[number : number + 1])
  return np.concatenate(ids)


def _number(sentinel):
  return int(re.search(r'\d+', sentinel)[0])


def decoded(
  tokenizer: Any, ids: Sequence[int], sentinels: Sequence[int] = ()
) -> str:
  """The text of ids, with sentinels by name; see `text_ids`.

  A borrowed one is an ordinary piece as well: it is a sentinel where its turn
  comes, which is once, after the one before it.
  """
  own, texts, first, place = len(tokenizer.sentinels), [], 0, -1
  if len(sentinels) <= own:
    return tokenizer.decode(ids)
  for number in range(own - 1, len(sentinels)):
    at = np.flatnonzero(np.asarray(ids[place + 1 :]) == sentinels[number])
    if not len(at):
      break
    place += 1 + int(at[0])
    if number >= own:
      texts += [tokenizer.decode(ids[first:place]), f'<extra_id_{number}>']
      first = place + 1
  texts.append(tokenizer.decode(ids[first:]))
  return ' '.join(filter(None, texts))


def infilled(prompt: str, answer: str) -> str:
  """A prompt with the text of an answer in its gaps.

  A gap that the answer leaves out stays.

  Example: infilled('A <extra_id_0> sat.', '<extra_id_0> cat <extra_id_1>') is
  'A cat sat.'
  """
  _, *parts = re.split(f'({SENTINEL})', answer)
  texts = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
  return re.sub(SENTINEL, lambda found: texts.get(found[0], found[0]), prompt)


def target_length(config: TransformerConfig, data: DataConfig) -> int:
  """Tokens decoded by default: as many as a target has, or half a row."""
  if config.family == 'encoder_decoder':
    return batch_shapes(data, config.family)['inputs'][0][-1]
  return data.length // 2


def show(
  tokenizer: Any, examples: dict, predicted: np.ndarray, end: int | None = None
) -> str:
  """Inputs, targets (if any) and predictions as text, row by row.

  Rows of padding are left out. A prediction ends as `until_eos` says.
  """
  lines = []
  for row, tokens in enumerate(predicted):
    read = examples['segments'][row] > 0
    if not read.any():
      continue
    source = tokenizer.decode(examples['source'][row][read])
    lines.append(f'input:      {source}')
    if 'targets' in examples:
      own = examples['target_segments'][row] > 0
      target = tokenizer.decode(examples['targets'][row][own])
      lines.append(f'target:     {target}')
    lines += [f'prediction: {until_eos(tokenizer, tokens, end)}', '']
  return '\n'.join(lines)


def until_eos(
  tokenizer: Any, tokens: np.ndarray, end: int | None = None
) -> str:
  """The text of tokens [T] before their first EOS, or `end` in its place.

  (It cannot end at 0, which may be a word of the vocabulary.)
  """
  ends = np.flatnonzero(tokens == (tokenizer.eos if end is None else end))
  return tokenizer.decode(tokens[: ends[0]] if len(ends) else tokens)
