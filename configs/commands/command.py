"""What all commands share: reading flags, and reporting mistakes in one line.

A mistake that the user can fix prints one line, 'Error: ...'. An exception that
our code did not raise on purpose keeps its traceback.
"""

import contextlib
import difflib
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from configs import common
from configs.commands import interrupt, memory

# The folder of the packaged configs.
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Folder of a config's name -> that of the packaged file.
FOLDERS = {
  '': '',
  'configs': '',
  'align': 'align',
  os.path.join('configs', 'align'): 'align',
  'finetune': 'finetune',
  os.path.join('configs', 'finetune'): 'finetune',
  'scaling': 'scaling',
  os.path.join('configs', 'scaling'): 'scaling',
}
_OVERRIDE = r'--?(?:no)?config\.([^=]+)'
# Flags whose value is a path.
_PATHS = (
  r'config|workdir|out|from|to|file|include_path|init_from|plot|data'
  r'|config\.data\.tokenizer'
)
_OURS = ('configs', 'input_pipeline', 'models', 'train')


class UserError(RuntimeError):
  """Its message is all that the user must read, whichever code raised it."""


def run(main: Callable[[], None], begun: str = '') -> None:
  """Reads the flags, calls `main`, and ends the process.

  The status is 1, with 'Error: ...' on stderr, after a ValueError or OSError
  that our own code raised, and after a UserError. It is 130 after Ctrl-C.

  Args:
    main: what the command does.
    begun: a config file whose argument is a workdir. It gives the config that
      overrides change when there is a --workdir and no --config.
  """

  def call(argv):
    if len(argv) > 1:
      _fail(f'unknown arguments: {" ".join(argv[1:])}. Flags begin with --.')
    _called(main)

  start(call, begun)


def run_words(main: Callable[[list[str]], None]) -> None:
  """As `run`, for a command without a config that has words beside its flags.

  `main` gets the words; flags may follow them.
  """
  flags.FLAGS.set_gnu_getopt()
  start(lambda argv: _called(lambda: main(argv[1:])))


def _called(main):
  """Calls `main`; a mistake that the user can fix is one line."""
  # Orbax logs the errors that it raises, each in a hundred lines.
  absl_logging.set_verbosity(absl_logging.FATAL)
  try:
    main()
  except Exception as error:
    if not is_fixable(error):
      raise
    _fail(message(error))


def start(main: Callable[[list[str]], None], begun: str | None = None) -> None:
  """Calls main(argv) with the arguments that are not flags.

  The status is 0 after --help and 130 after Ctrl-C. A stream that is closed, or
  cannot show a character, does not end the command.

  Args:
    main: what the command does.
    begun: as `run` has it; None: the command reads no config.
  """
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:  # closed before the start
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115
    # A terminal may not be able to show every character of a sample.
    with contextlib.suppress(AttributeError, OSError):  # not a usual stream
      getattr(sys, name).reconfigure(errors='replace')
  try:
    app.run(main, flags_parser=lambda argv: _flags(argv, begun))
  except KeyboardInterrupt:
    interrupt.end()


def is_fixable(error: Exception) -> bool:
  """Whether the user can fix the cause, so that the message is enough."""
  ours = isinstance(error, (ValueError, OSError)) and _is_ours(error)
  return ours or isinstance(error, UserError) or bool(memory.missing(error))


def message(error: Exception) -> str:
  """What the user reads of a fixable error."""
  ours = isinstance(error, UserError) or _is_ours(error)
  return str(error) if ours else memory.missing(error)


def find_config(name: str) -> str:
  """'FILE[:ARG]' with the path of a packaged config in place of its name.

  A file of that path comes first. Where there is none, 't5.py:tiny', 't5:tiny'
  and 'configs/t5.py:tiny' all mean the t5.py beside this file. A name that
  means no file is returned as it is.
  """
  path, colon, argument = name.partition(':')
  folder, file = os.path.split(path)
  inside = FOLDERS.get(folder, folder)
  packaged = os.path.join(HERE, inside, file.removesuffix('.py') + '.py')
  known = folder in FOLDERS and os.path.isfile(packaged)
  if known and not os.path.isfile(path):
    return f'{packaged}{colon}{argument}'
  return name


def _flags(argv: list[str], begun: str | None) -> list[str]:
  """FLAGS(argv), with our own --help and one line for a mistake."""
  argv = _readable(argv)
  if any(re.fullmatch(r'--?(h|help(short|full)?)', x) for x in argv[1:]):
    try:
      print(_help(_value('config', argv)), flush=True)
    except BrokenPipeError:  # as in --help | head
      os._exit(0)
    sys.exit(0)
  if begun is not None:
    argv = _with_config(argv, begun)
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    _fail(f'{error} See --help.')


def _with_config(argv: list[str], begun: str) -> list[str]:
  """The arguments with a --config for their overrides, which are checked."""
  overridden = any(re.match(_OVERRIDE, x) for x in argv[1:])
  name, folder = _value('config', argv), _value('workdir', argv)
  there = os.path.isdir(folder) or '://' in folder
  if begun and overridden and not name and there:
    name = f'{begun}:{folder}'
    argv = [argv[0], f'--config={name}', *argv[1:]]
  if name:
    _check_overrides(_load(name), argv)
  elif overridden:
    _fail('--config.KEY=VALUE changes a config: give --config=FILE.py as well.')
  return argv


def _readable(argv: list[str]) -> list[str]:
  """The arguments with home folders and packaged configs as whole paths."""
  argv = [argv[0], *map(_expanded, argv[1:])]
  for place, argument in enumerate(argv[1:], 1):
    flag, equals, value = argument.partition('=')
    if flag in ('--config', '-config') and equals:
      argv[place] = f'{flag}={find_config(value)}'
    elif flag in ('--config', '-config') and place + 1 < len(argv):
      argv[place + 1] = find_config(argv[place + 1])
  return argv


def _help(name: str) -> str:
  """What the program does, its flags, and the config's keys if it has one.

  The values of the keys are those of the config `name`; '': of common.base().
  """
  lines = [(sys.modules['__main__'].__doc__ or '').strip(), '']
  lines += [flags.FLAGS.main_module_help()]
  if 'config' not in flags.FLAGS:
    return '\n'.join(lines)
  of = f' of {name}' if name else ''
  lines += ['', f'Keys{of}, each a flag: --config.KEY=VALUE', '']
  config = _load(name) if name else common.base()
  own = _flat(config)
  own = {key: own[key] for key in common.KEYS if key in own} | own  # in order
  for key, value in own.items():
    shown, meaning = repr(value), ''
    if key in common.KEYS:
      meaning = str(common.KEYS[key])
      shown = common.KEYS[key].type.__name__ if value is None else shown
    lines.append(f'  {key}={shown}  {meaning}')
  return '\n'.join(lines)


def _expanded(argument: str) -> str:
  """--workdir=~/x as the shell would read ~/x alone."""
  return re.sub(
    rf'(--?(?:{_PATHS})=)(~[^/]*)',
    lambda found: found[1] + os.path.expanduser(found[2]),
    argument,
  )


def _value(flag: str, argv: list[str]) -> str:
  """The value of a flag; '' if it is not given."""
  text = ''.join(f'\0{x}' for x in argv[1:])
  found = re.match(rf'(?s).*?\0--?{flag}[=\0]([^\0]+)', text)
  return found[1] if found else ''


def _load(name: str) -> ConfigDict:
  """The config, or one line; absl would print a traceback."""
  path, *argument = name.split(':', 1)
  if not os.path.isfile(path):
    missing = f'there is no file {path!r} in {os.getcwd()}.'
    _fail(f'--config={name}: {missing}{_near_file(path)}')
  try:
    file = runpy.run_path(path)
    if 'get_config' not in file:
      _fail(f'--config={name}: {path} has no function get_config.')
    return file['get_config'](*argument)
  except ValueError as error:
    if not _is_ours(error):
      raise
    _fail(f'--config={name}: {error}')


def summary(config: ConfigDict, width: int = 80) -> str:
  """A config in few lines: what differs from common.base(), then the rest.

  Keys that are off (without a value, '' or ()) are left out.
  """
  base = _flat(common.base())
  values = {True: {}, False: {}}  # does it differ? -> group -> words
  for key, value in _flat(config).items():
    group, _, name = key.rpartition('.')
    differs = key not in base or value != base[key]
    if value not in (None, '', ()) or differs:
      plain = isinstance(value, str) and value and ' ' not in value
      word = f'{name}={value if plain else repr(value)}'
      values[differs].setdefault(group, []).append(word)
  lines = []
  for differs, title in (
    (True, 'Config, where it differs from the base:'),
    (False, "The base's values:"),
  ):
    lines.append(title)
    for group, words in values[differs].items():
      line = f'  {group}' if group else ' '
      for word in words:
        if len(f'{line} {word}') > width and line.strip():
          lines.append(line)
          line = '   '
        line = f'{line} {word}'
      lines.append(line)
  return '\n'.join(lines)


def _near_file(path: str) -> str:
  """A hint: a file of nearly this name, in its folder or packaged."""
  folder, name = os.path.split(path)
  names = os.listdir(folder or '.') if os.path.isdir(folder or '.') else []
  if folder in ('', 'configs'):
    names += os.listdir(HERE)
  if not name.endswith('.py'):
    names += [known.removesuffix('.py') for known in names]
  near = difflib.get_close_matches(name, names, 1)
  return f' Did you mean {os.path.join(folder, near[0])}?' if near else ''


def _check_overrides(config: ConfigDict, argv: list[str]) -> None:
  """Every --config.KEY must be a key of the config."""
  keys = list(_flat(config))
  for match in (re.match(_OVERRIDE, arg) for arg in argv[1:]):
    if match and (key := match[1]) not in keys:
      if any(k.startswith(f'{key}.') for k in keys):
        _fail(f'--config.{key} is a group of keys; set one of its keys.')
      near = near_key(key, keys)
      hint = f' Did you mean --config.{near}?' if near else ''
      _fail(f'--config.{key}: the config has no key {key!r}.{hint}')


def near_key(key: str, keys: list[str]) -> str:
  """The key that was probably meant; '' if none is near.

  It has the same name in another group, or the name is short for its words (lr
  for learning_rate), or it is spelled nearly the same.
  """
  name = key.rpartition('.')[2]

  def initials(known):
    return ''.join(word[0] for word in known.rpartition('.')[2].split('_'))

  found = [known for known in keys if known.rpartition('.')[2] == name]
  if not found and len(name) > 1:
    found = [known for known in keys if initials(known) == name]
  cutoff = 0 if found else 0.4
  near = difflib.get_close_matches(key, found or keys, 1, cutoff)
  return near[0] if near else ''


def _flat(config: ConfigDict, prefix: str = '') -> dict[str, Any]:
  """All values, by their dotted keys."""
  values = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      values |= _flat(value, f'{prefix}{key}.')
    else:
      values[f'{prefix}{key}'] = value
  return values


def _is_ours(error: BaseException) -> bool:
  """Whether the exception was raised by a line of this repository."""
  file = traceback.extract_tb(error.__traceback__)[-1].filename
  path = os.path.relpath(os.path.abspath(file), os.path.dirname(HERE))
  return path.split(os.sep)[0] in _OURS


def _fail(message: object) -> NoReturn:
  """Ends the process with one line and the status 1."""
  print(f'Error: {message}', file=sys.stderr, flush=True)
  sys.exit(1)
