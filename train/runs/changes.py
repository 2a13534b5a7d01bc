"""What may change in the config of a run that has trained, where accepted."""

from typing import Any

# Keys and groups of keys; see `may_change`.
CHANGEABLE = (
  'eval.',
  'model.attention_dropout',
  'model.dropout',
  'optimizer.',
  'schedule.',
  'train.',
)


def check(
  folder: str, old: dict, new: dict, keys: list[str], accept: bool
) -> None:
  """Refuses another config for a run that has trained.

  Args:
    folder: the workdir.
    old: the config of the run.
    new: the one it is to go on with.
    keys: those that differ and that a start may not change by itself.
    accept: the user accepts changes.

  Raises:
    ValueError: they are not accepted, or some cannot change; names them.
  """
  refused = [key for key in keys if not may_change(key, old, new)]
  if accept and not refused:
    return
  if accept:
    ways = (
      'These cannot change in a run that has trained: begin another one with '
      f'its parameters, in another --workdir, by --init_from={folder}.'
    )
  else:
    ways = (
      'Take another --workdir, or leave --config out to go on with it. '
      + (
        f'Another run begins with its parameters by --init_from={folder}.'
        if refused
        else 'To go on with these changes: --accept_changed_config.'
      )
    )
  what = f'--workdir={folder} holds the run of another config. Different are:'
  shown = lines(old, new, refused if accept else keys)
  raise ValueError('\n'.join([what, *shown, ways]))


def may_change(key: str, old: dict, new: dict) -> bool:
  """Whether a run can go on from its checkpoint with another value."""
  groups = tuple(x for x in CHANGEABLE if x.endswith('.'))
  if key not in CHANGEABLE and not key.startswith(groups):
    return False
  values = get(old, key), get(new, key)
  match key:
    case 'optimizer.name' | 'optimizer.factor_from':  # another state
      return False
    case 'optimizer.b1':  # Adafactor keeps a mean where it is not 0
      return all(values) or new['optimizer']['name'] != 'adafactor'
    case 'train.steps':  # of which the phases are shares
      return not (old['data']['curriculum'] or new['data']['curriculum'])
    case 'eval.source':  # without one documents are held out of training
      return all(values)
  return True


def lines(old: dict, new: dict, keys: list[str]) -> list[str]:
  """A line for each key: its value in the run and now."""
  return [
    f'  {key}: {get(old, key)!r} there, {get(new, key)!r} now' for key in keys
  ]


def put(tree: dict, key: str, value: Any) -> None:
  """Sets the value of a dotted key; None takes out a multiplier.

  Raises:
    KeyError: there is no such group.
  """
  *groups, name = key.split('.')
  for group in groups:
    tree = tree[group]
  if value is None and groups[-1:] == ['multipliers']:
    tree.pop(name, None)
  else:
    tree[name] = value


def get(tree: dict, key: str) -> Any:
  """The value of a dotted key; None where there is none."""
  for part in key.split('.'):
    tree = tree.get(part) if isinstance(tree, dict) else None
  return tree
