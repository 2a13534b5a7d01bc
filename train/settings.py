"""A group of config keys of which each choice uses some."""

from collections.abc import Mapping
from typing import Any


def check_group(
  name: str, group: Any, uses: Mapping[str, tuple[str, ...]]
) -> None:
  """Checks that the keys a choice uses are set, and no others.

  None is not set; 0 and False may be set in vain, since they turn things off.

  Args:
    name: of the group, for messages: 'optimizer'.
    group: ConfigDict; its key `name` makes the choice.
    uses: the keys that each choice uses.

  Raises:
    ValueError: an unknown choice, a missing key or an ignored one.
  """
  choice = group.name
  if choice not in uses:
    raise ValueError(
      f'{name}.name is {choice!r}; it must be one of {", ".join(uses)}.'
    )
  for key in uses[choice]:
    if group[key] is None:
      raise ValueError(
        f'{name}.{key} is not set; {name}.name={choice} uses it.'
      )
  for key in group:
    if group[key] and key != 'name' and key not in uses[choice]:
      raise ValueError(
        f'{name}.{key} is {group[key]}, but {name}.name={choice} does not use '
        'it; leave it unset.'
      )
