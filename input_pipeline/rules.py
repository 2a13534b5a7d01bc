"""What the rules of the keys data.* are made of; each raises ValueError."""

from collections.abc import Iterable
from typing import Any

DataConfig = Any  # config.DataConfig, whose file imports the rules


def require(holds: object, key: str, value: Any, rule: str) -> None:
  """Raises ValueError 'data.KEY=VALUE must RULE.' unless `holds` is true."""
  if not holds:
    raise ValueError(f'data.{key}={value!r} must {rule}.')


def must(config: DataConfig, holds: object, key: str, rule: str) -> None:
  """`require`, of a key's own value."""
  require(holds, key, getattr(config, key), rule)


def one_of(
  config: DataConfig, key: str, names: Iterable[str], hint: str = ''
) -> None:
  """A key's value is one of some names."""
  rule = f'be one of {", ".join(names)}{hint}'
  must(config, getattr(config, key) in names, key, rule)


def unused(config: DataConfig, key: str, choice: str, hint: str = '') -> None:
  """A key that the chosen objective or tokenizer does not read is unset."""
  value = getattr(config, key)
  rule = f'be {type(value)()!r}: data.{choice}={getattr(config, choice)!r}'
  must(config, not value, key, f'{rule} does not read it{hint}')


def at_least(config: DataConfig, key: str, least: float, why: str = '') -> None:
  """A number is not below `least`."""
  must(config, getattr(config, key) >= least, key, f'be at least {least}{why}')


def share(config: DataConfig, key: str, most: float = 1.0) -> None:
  """A number lies between 0 and `most`."""
  rule = f'lie between 0 and {most:g}'
  must(config, 0 <= getattr(config, key) <= most, key, rule)
