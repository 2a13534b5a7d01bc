"""What differs between two nested dicts: configs, fingerprints, settings."""

from typing import Any


def differences(
  old: dict, new: dict, prefix: str = ''
) -> list[tuple[str, Any, Any]]:
  """(dotted key, old value, new value) of what differs, in order of the keys.

  A key that one of the two lacks has None there.

  >>> differences({'a': 1, 'b': {'c': 2}}, {'a': 1, 'b': {'c': 3, 'd': 4}})
  [('b.c', 2, 3), ('b.d', None, 4)]
  """
  found = []
  for key in sorted(old.keys() | new.keys()):
    a, b = old.get(key), new.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      found += differences(a, b, f'{prefix}{key}.')
    elif a != b:
      found.append((f'{prefix}{key}', a, b))
  return found


def changed_keys(old: dict, new: dict) -> list[str]:
  """The dotted keys of `differences`."""
  return [key for key, _, _ in differences(old, new)]
