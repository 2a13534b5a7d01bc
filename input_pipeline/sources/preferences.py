"""Preferences as a source: `preferences:GLOB`, lines of JSON.

A line is a prompt and a chosen and a rejected answer, or a prompt, an answer
and whether it is desirable:

  {"prompt": "...", "chosen": "...", "rejected": "..."}
  {"prompt": "...", "completion": "...", "label": true}

These are the fields of trl's data sets. Texts may be lists of messages,
{"role": "user", "content": "..."}, in their place; an answer is one message of
the assistant. A line without a prompt has one in both answers: the part in
which they agree.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from input_pipeline.chat import messages as chat
from input_pipeline.chat.messages import Message, asked, conversation, said
from input_pipeline.sources import hashes, lines
from input_pipeline.sources.files import Source, parse

PAIR = 'chosen', 'rejected'
ONE = 'completion', 'label'


class Preference(NamedTuple):
  """A prompt and two answers.

  Attributes:
    number: the place in the source, from 0.
    prompt: a text; of chats, messages of which the last one is the user's.
    first, second: texts. `first` is the chosen answer and `second` the rejected
      one; or `first` is the only answer and `second` that of another prompt.
    desirable: 1 or 0, of an answer that stands alone.
  """

  number: int
  prompt: str | list[Message]
  first: str
  second: str
  desirable: float = 1.0


class Preferences(Source):
  """All lines of the files, in their order.

  With `single` answers stand alone: a pair is two answers, of which the chosen
  one is desirable. Beside each stands the next answer to another prompt, which
  KTO's estimate of the KL divergence needs (Ethayarajh et al. 2024, 4.1), and
  beside the rejected answer of a pair a rejected one: the estimate is over both
  kinds.

  Args:
    files: their names.
    where: the config's key and value, for messages.
    single: whether answers stand alone.
    chats: whether prompts are chats (data.chat_template). A text is then what
      the user says, without the space around it, and so is an answer.

  Raises:
    ValueError: no line can be used, or all prompts of single answers are one.
  """

  def __init__(
    self,
    files: list[str],
    where: str,
    single: bool = False,
    chats: bool = False,
  ):
    self.files, self._found = files, []
    self.lengths, self._firsts = [], []
    number = 0
    for file in files:
      own = []
      for line, record in enumerate(lines.read_lines(file), 1):
        if record and not record.isspace():
          for example in _read(record, number, single, chats):
            own.append((line, example))
            number += 1
      self._firsts.append(number - len(own))
      self.lengths.append(len(own))
      self._found.append(own)
    good = [x for x in self.examples if isinstance(x, Preference)]
    if not good:
      worst = next(iter(self.examples), 'they are empty')
      raise ValueError(f'{where} has no line that can be used: {worst}.')
    if single:
      self._pair(good, where)

  @property
  def examples(self) -> list[Preference | ValueError]:
    """All of them; an error in place of a line that is bad."""
    return [example for own in self._found for _, example in own]

  @property
  def fingerprint(self) -> list[dict]:
    return hashes.fingerprints(self.files)

  def records(self, file: int, start: int) -> Iterator[tuple[int, Any]]:
    return iter(self._found[file][start:])

  def open(self, file: int) -> Callable[[Sequence[int]], list]:
    return lambda indices: [self._found[file][n] for n in indices]

  def example(self, record: Preference | ValueError) -> Preference:
    """The example of a record; a ValueError says why it is a bad one."""
    if isinstance(record, ValueError):
      raise record
    return record

  def text(self, record: Preference | ValueError) -> bytes:
    """The prompt and the answers, to train a tokenizer on."""
    example = self.example(record)
    prompt = example.prompt
    if not isinstance(prompt, str):
      prompt = '\n'.join(x['content'] for x in prompt)
    return '\n'.join([prompt, example.first, example.second]).encode()

  def place(self, file: int, line: int) -> str:
    return f'{os.path.basename(self.files[file])}, line {line}'

  def _pair(self, good, where):
    """Gives each answer the next one to another prompt."""
    if all(x.prompt == good[0].prompt for x in good):
      raise ValueError(
        f'{where}: all answers have one prompt, {good[0].prompt[:60]!r}. The '
        'KL divergence of KTO is estimated from answers to other prompts: '
        'give several, or take align.method=dpo.'
      )
    following, found = 0, {}
    for n in reversed(range(2 * len(good))):
      at, after = n % len(good), (n + 1) % len(good)
      if good[after].prompt != good[at].prompt:
        following = after
      found[good[at].number] = good[following]
    seconds = self._seconds()
    for own in self._found:
      for n, (line, example) in enumerate(own):
        if isinstance(example, Preference):
          other = found[example.number]
          if example.number in seconds:  # a rejected one has a rejected one
            other = seconds.get(other.number + 1, other)
          own[n] = line, example._replace(second=other.first)

  def _seconds(self):
    """Number -> example, of those that are the rejected answer of a pair."""
    return {
      example.number: example
      for own in self._found
      for (before, _), (line, example) in itertools.pairwise(own)
      if line == before
    }


def _read(record, number, single, chats) -> list[Preference | ValueError]:
  """A line -> its examples, numbered from `number`."""
  try:
    found = parse(record)
    if not isinstance(found, dict):
      raise ValueError('the line is not a JSON object')
    if all(key in found for key in ONE):
      return _one(found, number, single, chats)
    if all(key in found for key in PAIR):
      return _two(found, number, single, chats)
    raise ValueError(
      'the object lacks chosen and rejected, or completion and label; it has '
      f'{", ".join(list(found)[:9])}'
    )
  except ValueError as error:
    return [error]


def _one(found, number, single, chats):
  if not single:
    raise ValueError(
      'it has one answer with a label, which align.method=kto reads: this '
      'method compares a chosen answer with a rejected one'
    )
  label = found['label']
  if not isinstance(label, bool) and label not in (0, 1):
    raise ValueError(f'label is {label!r}; it must be true or false')
  prompt, (answer,) = _texts(found, ('completion',), chats)
  return [Preference(number, prompt, answer, '', float(label))]


def _two(found, number, single, chats):
  prompt, answers = _texts(found, PAIR, chats)
  if answers[0] == answers[1]:
    raise ValueError('the chosen answer equals the rejected one')
  if not single:
    return [Preference(number, prompt, *answers)]
  return [
    Preference(number + n, prompt, answer, '', 1.0 - n)
    for n, answer in enumerate(answers)
  ]


def _texts(
  found: dict, names: Sequence[str], chats: bool
) -> tuple[str | list[Message], list[str]]:
  """The prompt of a line, and its answers as texts."""
  values = [found[name] for name in names]
  prompt = found.get('prompt')
  for name, value in (('prompt', prompt), *zip(names, values, strict=True)):
    _check(name, value, prompt is None and name == 'prompt' and len(names) > 1)
  if prompt is None:
    prompt, values = _shared(*values)
  for name, value in zip(names, values, strict=True):
    _check_turn(name, value)
  if chats:
    prompt = asked(prompt)
    chat.check(prompt, 'prompt', answered=False)
    texts = [x['content'] for x in prompt]
    values = [said(x) for x in values]
  else:
    if isinstance(prompt, list):
      prompt = conversation(prompt, ends=True)
    texts = [prompt]
    values = [conversation(x) if isinstance(x, list) else x for x in values]
  try:
    ''.join([*texts, *values]).encode()
  except UnicodeEncodeError as error:
    raise ValueError(f'a text is not Unicode ({error.reason})') from None
  return prompt, values


def _check(name, value, may_lack):
  if isinstance(value, str) or (value is None and may_lack):
    return
  message = {'role', 'content'}
  good = isinstance(value, list) and all(
    isinstance(x, dict)
    and message <= x.keys()
    and isinstance(x['content'], str)
    for x in value
  )
  if not good or not value:
    raise ValueError(
      f'{name} must be a text, or a list of messages with role and content'
    )


def _check_turn(name, value):
  """Raises ValueError if messages are not one turn of the assistant."""
  if isinstance(value, str):
    return
  roles = [x['role'] for x in value]
  if roles != ['assistant']:
    raise ValueError(
      f'{name} has messages of {", ".join(map(str, roles)) or "nobody"} after '
      'the prompt; it must have one, of the assistant. Where both answers have '
      'the whole chat, leave prompt out'
    )


def _shared(chosen, rejected):
  """Two whole texts or conversations -> their common prompt, two answers."""
  if type(chosen) is not type(rejected):
    raise ValueError('chosen and rejected are a text and a list of messages')
  pairs = enumerate(zip(chosen, rejected, strict=False))
  least = min(len(chosen), len(rejected))
  same = next((n for n, (a, b) in pairs if a != b), least)
  if isinstance(chosen, str):  # a word is not cut
    same = chosen.rfind(' ', 0, same) if same else 0
    same = max(same, 0)
  if not same:
    raise ValueError(
      'it has no prompt, and the two answers do not begin alike either'
    )
  return chosen[:same], [chosen[same:], rejected[same:]]
