"""How the argument of a config is read: FILE.py:ARG."""

import difflib
from collections.abc import Iterable


def parse(arg: str, **options: Iterable[str]) -> dict[str, str]:
  """Reads what follows the colon of `--config=FILE.py:ARG`.

  Args:
    arg: a size, or 'key=value,key=value'.
    **options: the values of each key, the default first; it may come again. A
      bare value is one of `size`.

  Returns:
    A value for every option.

  Raises:
    ValueError: an unknown key or value; the message names the nearest one.

  Example: parse('small', size=('base', 'small'), version=('1.0', '1.1')) is
  {'size': 'small', 'version': '1.0'}.
  """
  chosen = {key: next(iter(values)) for key, values in options.items()}
  for part in filter(None, arg.split(',')):
    key, value = part.split('=', 1) if '=' in part else ('size', part)
    if key not in options:
      raise ValueError(unknown('config argument', key, options))
    if value not in options[key]:
      raise ValueError(unknown(key, value, options[key]))
    chosen[key] = value
  return chosen


def unknown(what: str, value: str, known: Iterable[str]) -> str:
  """The message for a value that is not among the known ones."""
  known = dict.fromkeys(known)  # each once
  near = difflib.get_close_matches(value, known, 1, cutoff=0.4)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return f'{what} {value!r} is unknown.{hint} There are: {", ".join(known)}.'
