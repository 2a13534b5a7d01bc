"""A model that answers prompts.

A prompt's answers depend on the model, the options, the prompt and its number
alone: prompts are read in rows of a few widths, chosen by their own length, and
what is drawn comes from the seed, the prompt's number and the answer's.
"""

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from input_pipeline.chat.messages import Prompt, check, conversation, is_chat
from input_pipeline.chat.templates import Template
from models import decoding
from models.stack import written_out
from train.generation import programs
from train.generation.options import GREEDY, Answer, Options, answer_of
from train.generation.prompts import (
  answer_width,
  decoded,
  encode,
  encode_chat,
  padded,
  row_width,
  settled,
)
from train.parallel import sharding

NARROWEST = 128  # tokens of a row; others are twice, four times as wide ...
CHUNK = 16  # tokens that are written before a stop string is looked for
LONGEST = 128  # tokens written by default, where no config says how many


@dataclasses.dataclass(frozen=True)
class Writer:
  """A model that answers prompts.

  Attributes:
    model, params, tokenizer: of a generative family.
    start: the id that a text of the decoder begins with, or None.
    pairs: whether a prompt ends with EOS, as the inputs of a pair.
    longest: the most tokens of a prompt, with those that begin and end it;
      None: the model's positions say it.
    length: the most tokens of an answer, where the options name none.
    mesh, rules: of the parameters; None: they are on one device.
    modes: of UL2's denoisers in training; None: not known.
    sentinels: of data.borrow_sentinels; see `prompts.text_ids`.
    template: of data.chat_template: a prompt is what the user says.
    bare: of a published checkpoint: the template writes chats alone, and a text
      is read as it is.
    unread: why the template of a checkpoint cannot be read; or ''.
  """

  model: nn.Module
  params: Any
  tokenizer: Any
  start: int | None
  pairs: bool
  longest: int | None
  length: int
  mesh: Mesh | None = None
  rules: sharding.Rules = ()
  modes: tuple[str, ...] | None = None
  sentinels: Sequence[int] = ()
  template: Template | None = None
  bare: bool = False
  unread: str = ''

  def answers(
    self,
    prompts: Sequence[Prompt | Sequence[int]],
    options: Options = GREEDY,
    batch: int = 8,
    first: int = 0,
  ) -> list[list[Answer]]:
    """The answers to each prompt, in their order.

    Args:
      prompts: texts, chats, or lists of ids that are read as they are.
      options: how answers are written.
      batch: how many prompts are answered at once.
      first: the number of the first prompt, for what is drawn.

    Raises:
      ValueError: a prompt is empty or too long, or an option does not fit.
    """
    rows = [self.encoded(prompt, options.mode) for prompt in prompts]
    length = self.room(options, max(map(len, rows)))
    size = self.divisible(min(batch, len(rows)))
    widths: dict[tuple[int, bool], list[int]] = {}
    for n, row in enumerate(rows):
      alone = self._reads_alone(prompts[n])
      widths.setdefault((self.width(len(row)), alone), []).append(n)
    found: dict[int, list[Answer]] = {}
    for (width, alone), places in sorted(widths.items()):
      own = self.of_texts if alone else self
      for n in range(0, len(places), size):
        part = places[n : n + size]
        source = self._placed(
          [rows[x] for x in part], [first + x for x in part], width, size
        )
        if options.beams > 1:
          answers = own._searched(source, length, options)
        else:
          answers = own._written(source, length, options, len(part))
        found |= dict(zip(part, answers, strict=False))  # the rest fills it up
    return [found[n] for n in range(len(rows))]

  def stream(
    self,
    prompt: Prompt,
    options: Options = GREEDY,
    every: int = 4,
  ) -> Iterator[str]:
    """Yields the pieces of one answer, each after so many tokens.

    Raises:
      ValueError: as of `answers`; or several samples, or beams.
    """
    if options.beams > 1 or options.samples > 1:
      raise ValueError('One answer is streamed: leave beams and samples out.')
    if self._reads_alone(prompt):
      yield from self.of_texts.stream(prompt, options, every)
      return
    row = self.encoded(prompt, options.mode)
    length = self.room(options, len(row))
    source = self._placed([row], [0], self.width(len(row)), self.divisible(1))
    shown = ''
    for state in self._states(source, length, options, every):
      answer = self._answer(state, 0, options)
      text = answer.text
      if answer.end == 'length' and state.index < length:  # it goes on
        text = settled(text, options.stop)
      if text.startswith(shown) and text != shown:
        yield text[len(shown) :]
        shown = text
      if answer.end == 'stop':
        return

  def encoded(
    self, prompt: Prompt | Sequence[int], mode: str = ''
  ) -> np.ndarray:
    """The ids that the model reads for a prompt; see `prompts.encode`.

    Messages of a chat are plain text where the model has no template.
    """
    if mode and self.modes is not None and mode not in self.modes:
      known = f'one of {", ".join(self.modes)}' if self.modes else 'none'
      raise ValueError(
        f'mode={mode!r} was not in training: it must be {known} '
        '(data.denoisers).'
      )
    if self._reads_alone(prompt):
      return self.of_texts.encoded(prompt, mode)
    chat = is_chat(prompt)
    if chat and self.unread:
      raise ValueError(self.unread)
    if not (chat or isinstance(prompt, str)):
      return np.asarray(prompt, np.int32)
    if chat and not self.template:
      check(prompt, 'The prompt', answered=False)
      prompt = conversation(prompt, ends=True)
    most = 2 * len((mode + str(prompt)).encode()) + 4  # no text has more tokens
    longest = self.longest or self.model.config.max_length or most
    if self.template:
      start = self.start
      if self.bare:  # a published template writes the whole of a chat
        start, longest = None, self.model.config.max_length or sys.maxsize
      return encode_chat(
        self.tokenizer, prompt, longest, self.pair, start, self.template
      )
    found = encode(
      self.tokenizer, [prompt], longest, self.model.config.family, self.pairs,
      self.start, mode, self.sentinels,
    )  # fmt: skip
    return found['source'][found['segments'] > 0]

  def _reads_alone(self, prompt):
    """Whether a prompt is read without the template that the model has."""
    return self.bare and bool(self.template) and not is_chat(prompt)

  @functools.cached_property
  def of_texts(self) -> 'Writer':
    """The writer of prompts that are read without the template."""
    return dataclasses.replace(self, template=None, bare=False)

  def room(self, options: Options, longest: int) -> int:
    """The most tokens of an answer, after prompts of at most so many tokens.

    Raises:
      ValueError: the model has fewer positions than the options ask for.
    """
    most = decoding.room(self.model.config, np.ones((1, longest)))
    length = options.length or min(self.length, most or self.length)
    if most is not None and length > most:
      raise ValueError(
        f'A length of {length} tokens is too much: model.max_length='
        f'{self.model.config.max_length} has positions for {most} after this '
        'input.'
      )
    if options.minimum > length:
      raise ValueError(f'minimum={options.minimum} is more than {length}.')
    if options.beams > self.tokenizer.size:
      raise ValueError(
        f'{options.beams} beams are more than the {self.tokenizer.size} tokens '
        'of the vocabulary that begin them.'
      )
    return length

  def _written(self, source, length, options, count):
    """The answers to the first `count` rows; those after them fill up."""
    N = options.samples
    every = CHUNK if options.stop else length
    for state in self._states(source, length, options, every):
      found = [self._answer(state, n, options) for n in range(count * N)]
      if all(answer.end != 'length' for answer in found):
        break
    return [found[n : n + N] for n in range(0, len(found), N)]

  def _searched(self, source, length, options):
    model, params = self.writing
    search = programs.searching(
      self.fixed._replace(model=model), options.beams, options.length_penalty
    )
    with self.on_mesh():
      texts = search(
        params, *source[:2], length, length=answer_width(length),
        minimum=options.minimum,
      )  # fmt: skip
    tokens, scores, log_probs = jax.device_get(texts)
    texts = tokens[..., :length], scores, log_probs[..., :length]
    found = []
    for row in zip(*texts, strict=True):
      best = zip(*(x[: options.samples] for x in row), strict=True)
      found.append(
        [self._text(ids, logs, options, score) for ids, score, logs in best]
      )
    return found

  def _states(self, source, length, options, every):
    """What is written, on this host, whenever `every` more tokens are."""
    model, params = self.writing
    fixed = self.fixed._replace(model=model)
    begin, advance = programs.stepwise(fixed, options.sampling)
    with self.on_mesh():
      state = begin(
        params, *source, options.seed, length=answer_width(length),
        copies=options.samples,
      )  # fmt: skip
      until = 0
      while until < length:
        until = min(until + every, length)
        state = advance(params, state, until)
        kept = state._replace(seen=None, rngs=None, cache=None, context={})
        kept = jax.device_get(kept)
        yield kept
        if kept.done.all():
          return

  def _answer(self, state, row, options):
    count = int(state.index)
    tokens, log_probs = state.tokens[row], state.log_probs[row]
    return self._text(tokens[:count], log_probs[:count], options)

  def _text(self, tokens, log_probs, options, score=None):
    own = functools.partial(decoded, self.tokenizer, sentinels=self.sentinels)
    return answer_of(tokens, log_probs, own, self.end, options.stop, score)

  def _placed(self, rows, numbers, width, size):
    """Rows of ids -> source, segments [size,width], numbers [size]."""
    fill = size - len(rows)
    left = not self.pair
    arrays = dict(
      zip(
        ('source', 'segments'),
        padded([*rows, *[rows[-1]] * fill], width, left=left),
        strict=True,
      )
    )
    arrays['numbers'] = np.int32([*numbers, *[0] * fill])
    return (*self.placed(arrays, size).values(),)

  @property
  def end(self) -> int:
    """The id that ends an answer."""
    return self.template.end if self.template else self.tokenizer.eos

  @property
  def pair(self) -> bool:
    """Whether the model has an encoder that reads the prompt."""
    return self.model.config.family == 'encoder_decoder'

  def placed(self, arrays: dict[str, np.ndarray], size: int) -> dict[str, Any]:
    """Arrays of `size` rows, the same on each host, spread over the mesh."""
    if self.mesh is None:
      return arrays
    own = sharding.batch_rows(self.mesh, size)
    arrays = {name: x[own] for name, x in arrays.items()}
    return sharding.global_batch(arrays, own, self.mesh, size)

  def width(self, tokens: int, narrowest: int = NARROWEST) -> int:
    """The width of the row that a prompt of so many tokens is read in."""
    return row_width(tokens, self.model.config, narrowest)

  def divisible(self, rows: int) -> int:
    """At least so many rows, as the devices share them."""
    if self.mesh is None:
      return rows
    share = math.prod(self.mesh.shape[name] for name in sharding.BATCH[0])
    return -(-rows // share) * share

  @functools.cached_property
  def writing(self) -> tuple[nn.Module, Any]:
    """The model that writes one token after the other, and its parameters."""
    with self.on_mesh():
      return written_out(self.model, self.params)

  @property
  def fixed(self) -> programs.Fixed:
    """What its programs are compiled for."""
    return programs.Fixed(
      self.model, self.end, self.start or 0, self.tokenizer.size,
      self.mesh,
    )  # fmt: skip

  @contextlib.contextmanager
  def on_mesh(self) -> Iterator[None]:
    """Computations inside are sharded as the parameters are."""
    with contextlib.ExitStack() as stack:
      if self.mesh is not None:
        stack.enter_context(jax.set_mesh(self.mesh))
      stack.enter_context(nn.logical_axis_rules(self.rules))
      yield
