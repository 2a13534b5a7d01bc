"""Messages: what a user and an assistant say to each other, in turns.

A message is {'role': ROLE, 'content': TEXT}. A chat is a list of them: perhaps
one of the system first, then user and assistant in turns.
"""

from collections.abc import Sequence
from typing import Any

from input_pipeline.choices import either

Message = dict[str, str]
Prompt = str | Sequence[Message]  # the last message is the user's
ROLES = 'system', 'user', 'assistant'


def exchange(text: str, answer: str) -> list[Message]:
  """A chat of one turn: what the user says, and the answer."""
  return [
    {'role': 'user', 'content': text},
    {'role': 'assistant', 'content': answer},
  ]


def check(messages: Any, place: str = 'messages', answered: bool = True):
  """Raises ValueError, naming `place`, unless messages are a chat.

  With `answered` it ends in an assistant's turn, otherwise in a user's: a
  prompt.
  """
  if not isinstance(messages, Sequence) or isinstance(messages, str):
    raise ValueError(
      f'{place}: {str(messages)[:40]!r} is not a list of messages.'
    )
  for n, message in enumerate(messages):
    where = f'{place}, message {n + 1}'
    if not isinstance(message, dict) or not {'role', 'content'} <= {*message}:
      raise ValueError(f'{where} must have the fields role and content.')
    if message['role'] not in ROLES:
      raise ValueError(
        f'{where}: role {message["role"]!r} must be {either(ROLES)}.'
      )
    content = message['content']
    if not isinstance(content, str) or not content.strip():
      raise ValueError(
        f'{where}: the content of the {message["role"]} is empty, or no text.'
      )
  roles = [message['role'] for message in messages]
  turns = roles[roles[:1] == ['system'] :]
  for n, role in enumerate(turns):
    wanted = ROLES[1 + n % 2]
    if role != wanted:
      raise ValueError(
        f'{place}: message {n + 1 + len(roles) - len(turns)} is of the {role},'
        f' but it is the turn of the {wanted}: after at most one message of the'
        ' system, user and assistant take turns, and the user begins.'
      )
  last = 'assistant' if answered else 'user'
  if not turns or turns[-1] != last:
    raise ValueError(
      f'{place}: the last message must be of the {last}, not of'
      f' {turns[-1] if turns else "nobody"}.'
    )


def asked(prompt: str | Sequence[dict]) -> list[Message]:
  """A prompt as a chat: a text is what the user says.

  >>> asked(' Hi. ')
  [{'role': 'user', 'content': 'Hi.'}]
  """
  if isinstance(prompt, str):
    return [{'role': 'user', 'content': prompt.strip()}]
  return [{key: x[key] for key in ('role', 'content')} for x in prompt]


def said(answer: str | Sequence[dict]) -> str:
  """The content of an answer in a chat."""
  return answer.strip() if isinstance(answer, str) else answer[0]['content']


def conversation(messages: Sequence[dict], ends: bool = False) -> str:
  """Messages as plain text; with `ends` the assistant's turn follows.

  >>> conversation([{'role': 'user', 'content': 'Hi.'}], ends=True)
  'User: Hi.\\n\\nAssistant:'
  >>> conversation([{'role': 'assistant', 'content': 'Hello.'}])
  ' Hello.'
  """
  if not ends:
    return ''.join(f' {x["content"].strip()}' for x in messages)
  turns = [f'{x["role"].title()}: {x["content"].strip()}' for x in messages]
  return '\n\n'.join([*turns, 'Assistant:'])


def is_chat(prompt: Any) -> bool:
  """Whether a prompt is a list of messages, not a text or ids."""
  return isinstance(prompt, list) and isinstance(next(iter(prompt), 0), dict)


def last_words(prompt: Prompt) -> str:
  """A prompt that is a text, or what the user said last.

  >>> last_words([{'role': 'user', 'content': 'Hi.'}])
  'Hi.'
  """
  return prompt if isinstance(prompt, str) else prompt[-1]['content']
