"""What all processes of a run must have alike, checked before it compiles.

Each process describes what it has; `odd` names who differs, in what, from whom.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from configs.commands import terminal
from input_pipeline.sources import paths
from train.parallel.meeting import Member, listed

CLOCK = 5.0  # seconds that a clock may be off without a warning
SHOWN = 8  # differences that a message has
LONGEST = 60  # characters of a value in a message
SEEN = 15.0  # seconds in which a new file must be seen on all hosts
Ask = Callable[[Any, Callable[[list], Any]], Any]


def odd(values: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> list[str]:
  """A line for each key whose values differ, with who has which.

  What most processes have is the rule; where no value has a majority, all are
  named. Values may be nested: their keys are joined by dots.

  >>> alike = {'a': 1, 'b': {'c': 2}}
  >>> odd([alike, {'a': 1, 'b': {'c': 3}}, alike], ['x', 'y', 'z'])
  ['b.c is 3 on process 1 (y), 2 on the others']
  """
  flat = [dict(_flat(value)) for value in values]
  lines = []
  for key in dict.fromkeys(key for one in flat for key in one):
    holders = {}  # value, as text -> processes
    for number, one in enumerate(flat):
      text = json.dumps(one[key], sort_keys=True) if key in one else 'missing'
      holders.setdefault(text, []).append(number)
    if len(holders) == 1:
      continue
    usual = max(holders, key=lambda text: len(holders[text]))
    majority = 2 * len(holders[usual]) > len(flat)
    parts = [
      f'{_cut(text)} on {_named(numbers, hosts)}'
      for text, numbers in holders.items()
      if not majority or text != usual
    ]
    if majority:
      parts.append(f'{_cut(usual)} on the others')
    lines.append(f'{key} is {", ".join(parts)}')
  return lines


def _flat(value: Mapping[str, Any], prefix: str = ''):
  for key, one in value.items():
    if isinstance(one, Mapping) and one:
      yield from _flat(one, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', one


def _named(numbers: Sequence[int], hosts: Sequence[str]) -> str:
  names = list(dict.fromkeys(hosts[number] for number in numbers))
  more = ', ...' * (len(names) > 3)
  return f'{listed(numbers)} ({", ".join(names[:3])}{more})'


def _cut(text: str) -> str:
  """A value's JSON, shortened; a word without its quotes."""
  if re.fullmatch(r'"[^\s",]*[^\s",\d][^\s",]*"', text):
    text = text[1:-1]
  return text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'


def disagreement(
  what: str,
  values: Sequence[Mapping[str, Any]],
  hosts: Sequence[str],
  advice: str,
) -> str:
  """The message where values differ; '' where they do not."""
  lines = odd(values, hosts)
  if not lines:
    return ''
  more = len(lines) - SHOWN
  shown = ''.join(f'\n  {line}' for line in lines[:SHOWN])
  return (
    f'The {len(values)} processes of this run were started with different '
    f'{what}:{shown}' + f'\n  and {more} more' * (more > 0) + f'\n{advice}'
  )


# ---- When they meet --------------------------------------------------------


def judge(members: Sequence[Member]) -> str:
  """What is wrong with the software of all; '' if nothing is.

  Prints a warning for clocks that are off.
  """
  hosts = [member.host for member in members]
  for member in members:
    if abs(member.ahead) > CLOCK:
      way = 'ahead of' if member.ahead > 0 else 'behind'
      terminal.warn(
        f'the clock of {member} is {abs(member.ahead):.0f} s {way} that of '
        f'{members[0]}: times in logs and of files will not agree. Let both '
        'hosts set their clocks by NTP.'
      )
  described = [member.facts for member in members]
  problems = []
  for group, what, advice in (
    ('files', 'code', 'Install the same code on all of them.'),
    ('versions', 'packages', 'Install the same versions on all of them.'),
    ('variables', 'variables', 'Set the same variables on all of them.'),
  ):
    values = [one.get(group, {}) for one in described]
    if group == 'files':
      values = _files(values)
      commits = [one.get('commit', {}) for one in described]
      if odd(values, hosts):  # commits alone may differ: some have none
        values = [a | b for a, b in zip(commits, values, strict=True)]
    problems.append(disagreement(what, values, hosts, advice))
  return '\n'.join(filter(None, problems))


def _files(values: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
  """Hashes as a message shows them."""
  return [{k: f'#{x[:6]}' for k, x in one.items()} for one in values]


# ---- With a workdir --------------------------------------------------------


def check_workdir(ask: Ask, folder: str, main: bool) -> str:
  """What is wrong with the workdir on the hosts; '' if nothing is.

  Process 0 writes a file there, which all must see, and all must be able to
  write one. Remote folders (gs://) are shared by their nature.

  Args:
    ask: as `processes.ask`.
    folder: the workdir; process 0 has made it.
    main: whether this is process 0.
  """
  if paths.is_remote(folder):
    return ''
  own = os.path.join(os.path.abspath(folder), f'.met-{uuid.uuid4().hex}')
  with contextlib.ExitStack() as stack:
    problem = _write(own, stack) if main else ''
    first = ask('' if problem else own, lambda names: names[0])
    if not main and first:
      if _seen(os.path.join(os.path.dirname(own), os.path.basename(first))):
        problem = _write(own, stack)
      else:
        problem = (
          'is another folder than on process 0, whose file did not show there '
          f'within {SEEN:.0f} s'
        )

    def answer(found):
      wrong = {n: x for n, (_, x) in enumerate(found) if x}
      if not wrong:
        return ''
      hosts = [host for host, _ in found]
      groups = {}
      for number, text in wrong.items():
        groups.setdefault(text, []).append(number)
      lines = [
        f'on {_named(numbers, hosts)} it {text}'
        for text, numbers in groups.items()
      ]
      return (
        f'--workdir={folder}: {"; ".join(lines)}. All processes need one '
        'folder that they share, on a disk that all hosts mount at the same '
        'place.'
      )

    return ask((socket.gethostname(), problem), answer)


def _write(path: str, stack: contextlib.ExitStack) -> str:
  """Writes a file until the stack ends; returns what is wrong, if anything."""
  try:
    paths.write(path, b'x')
  except OSError as error:
    return f'takes no files ({error.strerror or error})'
  stack.callback(_remove, path)
  return ''


def _remove(path: str) -> None:
  with contextlib.suppress(OSError):
    os.remove(path)


def _seen(path: str) -> bool:
  """Whether a file that was just made is there: NFS may take some seconds."""
  until = time.monotonic() + SEEN
  while not os.path.exists(path):
    if time.monotonic() > until:
      return False
    with contextlib.suppress(OSError):
      os.listdir(os.path.dirname(path))  # NFS then asks its server again
    time.sleep(0.1)
  return True


def warn_of_space(folder: str, needed: int) -> None:
  """Warns if the disk has no room for a checkpoint of so many bytes."""
  if paths.is_remote(folder):
    return
  with contextlib.suppress(OSError):
    free = shutil.disk_usage(folder).free
    if free < needed:
      terminal.warn(
        f'--workdir={folder}: {free / 1e9:.3g} GB are free there, and a '
        f'checkpoint of this run takes {needed / 1e9:.3g} GB.'
      )
