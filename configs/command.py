"""What every command shares: the flags read, and mistakes told in a line.

A mistake that the user can mend prints one 'Error: ...'; an exception that no
code of ours raised on purpose keeps its traceback.
"""

import contextlib
import difflib
import functools
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict

from configs import common, interrupt, memory

_OVERRIDE = r'--?(?:no)?config\.([^=]+)'
# Flags whose value is a path.
PATHS = (
  *('config', 'workdir', 'out', 'from', 'to', 'file', 'init_from'),
  *('plot', 'data'),
  'config.data.tokenizer',
)
_OURS = ('configs', 'input_pipeline', 'models', 'train')


class UserError(RuntimeError):
  """A message for the user, wherever the cause lay."""


def run(main: Callable[[], None], begun: str = '') -> None:
  """Reads the flags, calls `main`, and ends the process.

  Overrides without --config are of the config of the run in --workdir, which
  the file `begun` reads: a config file whose argument is the workdir.

  With a status of 1 and 'Error: ...' on stderr where a ValueError or OSError
  came from our own code, or a UserError (or a class made from it) from any;
  with a status of 130 after Ctrl-C.
  """

  def told(argv):
    if len(argv) > 1:
      _fail(f'unknown arguments: {" ".join(argv[1:])}. Flags begin with --.')
    # Orbax logs the errors that it raises, each in a hundred lines.
    absl_logging.set_verbosity(absl_logging.FATAL)
    try:
      main()
    except Exception as error:
      if not is_mendable(error):
        raise
      _fail(message(error))

  start(told, lambda argv: _parse(argv, begun))


def start(
  main: Callable[[list[str]], None],
  parse: Callable[[list[str]], list[str]] | None = None,
) -> None:
  """Calls main(argv) with what `parse` leaves, or the arguments no flag is.

  After --help the status is 0, after Ctrl-C 130. Streams that are closed, or
  cannot show a sign, end no command.
  """
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:  # closed before the start
      setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115
    # A sign that a terminal cannot show, in a sample say, ends no run.
    with contextlib.suppress(AttributeError, OSError):  # another's stream
      getattr(sys, name).reconfigure(errors='replace')
  try:
    app.run(main, flags_parser=parse or _flags)
  except KeyboardInterrupt:
    interrupt.end()


def is_mendable(error: Exception) -> bool:
  """Whether the user can mend the cause, so that its message is enough."""
  ours = isinstance(error, (ValueError, OSError)) and _is_ours(error)
  return ours or isinstance(error, UserError) or bool(memory.missing(error))


def message(error: Exception) -> str:
  """What the user reads of an error that is_mendable."""
  ours = isinstance(error, UserError) or _is_ours(error)
  return str(error) if ours else memory.missing(error)


def _parse(argv: list[str], begun: str) -> list[str]:
  """FLAGS(argv), with the mistakes in --config told more clearly."""
  argv = [argv[0], *map(_expanded, argv[1:])]
  _explain(argv)
  overridden = any(re.match(_OVERRIDE, x) for x in argv[1:])
  name, folder = _value('config', argv), _value('workdir', argv)
  if begun and overridden and not name and os.path.isdir(folder):
    name = f'{begun}:{folder}'
    argv = [argv[0], f'--config={name}', *argv[1:]]
  if name:
    _check_overrides(_load(name), argv)
  elif overridden:
    _fail('--config.KEY=VALUE changes a config: give --config=FILE.py as well.')
  return _flags(argv)


def _flags(argv: list[str]) -> list[str]:
  """FLAGS(argv), with --help and mistakes told by us."""
  _explain(argv)
  try:
    return flags.FLAGS([argv[0], *map(_expanded, argv[1:])])
  except flags.Error as error:
    return _fail(f'{error} See --help.')


def _explain(argv: list[str]) -> None:
  """Shows the help and ends the process, where it is asked for."""
  if any(re.fullmatch(r'--?(h|help(short|full)?)', x) for x in argv[1:]):
    text = _help(_value('config', argv))
    try:
      print(text, flush=True)
    except BrokenPipeError:  # as in --help | head
      os._exit(0)
    sys.exit(0)


def _help(name: str) -> str:
  """What the program does, its flags, and the config's keys if it has one.

  The keys have the values of the config `name`; '': those of common.base().
  """
  lines = [(sys.modules['__main__'].__doc__ or '').strip(), '']
  lines += [flags.FLAGS.main_module_help()]
  if 'config' not in flags.FLAGS:
    return '\n'.join(lines)
  of = f' of {name}' if name else ''
  lines += ['', f'Keys{of}, each a flag: --config.KEY=VALUE', '']
  config = _load(name) if name else common.base()
  own = list(_keys(config))
  known = [key for key in common.KEYS if key in own]  # in their order
  for key in (*known, *(key for key in own if key not in known)):
    default, meaning = common.KEYS.get(key, ('', ''))
    value = functools.reduce(getattr, key.split('.'), config)
    kind = default.__name__ if isinstance(default, type) else 'none'
    lines.append(f'  {key}={kind if value is None else repr(value)}  {meaning}')
  return '\n'.join(lines)


def _expanded(argument: str) -> str:
  """--workdir=~/x as the shell would read ~/x alone."""
  return re.sub(
    rf'(--?(?:{"|".join(PATHS)})=)(~[^/]*)',
    lambda found: found[1] + os.path.expanduser(found[2]),
    argument,
  )


def _value(flag: str, argv: list[str]) -> str:
  """What a flag is set to; '' if it is not."""
  text = ''.join(f'\0{x}' for x in argv[1:])
  found = re.match(rf'(?s).*?\0--?{flag}[=\0]([^\0]+)', text)
  return found[1] if found else ''


def _load(name: str) -> ConfigDict:
  """The config, or an error; absl would tell it with a traceback."""
  path = name.split(':', 1)[0]
  if not os.path.isfile(path):
    _fail(
      f'--config={name}: there is no file {path!r} in {os.getcwd()}.'
      + _near_file(path)
    )
  argument = name.split(':', 1)[1:]
  try:
    file = runpy.run_path(path)
    if 'get_config' not in file:
      _fail(f'--config={name}: {path} has no function get_config.')
    return file['get_config'](*argument)
  except ValueError as error:
    if not _is_ours(error):
      raise
    return _fail(f'--config={name}: {error}')


def summary(config: ConfigDict, width: int = 80) -> str:
  """A config in few lines: what differs from common.base(), then the rest.

  Keys without a value ('' and () too, which choose nothing) are left out.
  """
  base = common.base()
  values = {True: {}, False: {}}  # does it differ? -> group -> words
  for key in _keys(config):
    group, _, name = key.rpartition('.')
    value = functools.reduce(getattr, key.split('.'), config)
    differs = key not in common.KEYS or value != functools.reduce(
      getattr, key.split('.'), base
    )
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
  """A file of the same folder whose name is nearly the same, as a hint."""
  folder, name = os.path.split(path)
  folder = folder or '.'
  names = os.listdir(folder) if os.path.isdir(folder) else []
  near = difflib.get_close_matches(name, names, 1)
  if not near:
    return ''
  return f' Did you mean {os.path.join(os.path.dirname(path), near[0])}?'


def _check_overrides(config: ConfigDict, argv: list[str]) -> None:
  """Every --config.KEY must be a key of the config."""
  keys = list(_keys(config))
  for arg in argv[1:]:
    match = re.match(_OVERRIDE, arg)
    if match and match[1] not in keys:
      key = match[1]
      if any(k.startswith(f'{key}.') for k in keys):
        _fail(f'--config.{key} is a group of keys; set one of its keys.')
      near = _near_key(key, keys)
      hint = f' Did you mean --config.{near}?' if near else ''
      _fail(f'--config.{key}: the config has no key {key!r}.{hint}')


def _near_key(key: str, keys: list[str]) -> str:
  """The key that was meant: of the same name in another group, or short for
  its words (lr for learning_rate), or spelled nearly so; '' if none is near."""
  name = key.rpartition('.')[2]

  def initials(known):
    return ''.join(word[0] for word in known.rpartition('.')[2].split('_'))

  for fits in (
    lambda known: known.rpartition('.')[2] == name,
    lambda known: len(name) > 1 and initials(known) == name,
  ):
    found = [known for known in keys if fits(known)]
    if len(found) == 1:
      return found[0]
    if found:
      return difflib.get_close_matches(key, found, 1, cutoff=0)[0]
  return next(iter(difflib.get_close_matches(key, keys, 1, cutoff=0.4)), '')


def _keys(config: ConfigDict, prefix: str = ''):
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _keys(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}'


def _is_ours(error: BaseException) -> bool:
  """Whether the exception was raised by a line of this repository."""
  file = traceback.extract_tb(error.__traceback__)[-1].filename
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  parts = os.path.relpath(os.path.abspath(file), root).split(os.sep)
  return parts[0] in _OURS


def _fail(message: object):
  print(f'Error: {message}', file=sys.stderr, flush=True)
  sys.exit(1)
