"""Which keys of a config may change between two starts of a run.

FREE        always: they change no batch and no number
MOVABLE     if a checkpoint's fingerprint shows that the data are the same
CHANGEABLE  with --accept_changed_config; history.json records the change
all others  never in a run that has trained
"""

from typing import Any

from configs.differences import changed_keys

# Keys, or groups of keys.
FREE = (
  'align.reward_memory',
  'align.reward_seconds',
  'checkpoint.',
  'data.epochs',  # it only says when the batches end
  'data.threads',
  'data.max_bad_share',
  'data.tokenizer',  # its fingerprint is compared, wherever the file is
  'eval.batches',
  'eval.every',
  'eval.samples',
  'eval.sources',
  'model.attention',
  'model.remat',
  'model.scan_unroll',
  'sharding.',
  'train.log_every',
  'train.loss_chunk',
)
MOVABLE = 'data.source', 'data.mixture', 'eval.source'
CHANGEABLE = (  # see `may_change` for exceptions
  'eval.',
  'model.attention_dropout',
  'model.dropout',
  'optimizer.',
  'schedule.',
  'train.',
)


def is_free(key: str) -> bool:
  """Whether a key may change between any two starts of a run."""
  return _is_in(key, FREE)


def fixed(old: dict, new: dict, saved: bool) -> list[str]:
  """The keys in which two configs of a run differ but may not by themselves.

  `saved` says whether the run has a checkpoint.
  """
  free = FREE + MOVABLE * saved
  endless = new['schedule']['name'] in ('constant', 'inverse_sqrt')
  same = old['schedule']['name'] == new['schedule']['name']
  # These parts of a run are shares of its steps.
  shares = new['tuning']['train'] in ('unfreezing', 'two_stage')
  if endless and same and not shares:
    free = *free, 'train.steps'
  return [key for key in changed_keys(old, new) if not _is_in(key, free)]


def check(
  folder: str, old: dict, new: dict, keys: list[str], accept: bool
) -> None:
  """Refuses another config for a run that has trained.

  `keys` are those of `fixed`. Raises ValueError, which lists the keys, if the
  user does not `accept` the changes, or a key can never change.
  """
  refused = [key for key in keys if not may_change(key, old, new)]
  if accept and not refused:
    return
  another = 'To begin another run with its parameters, '
  leave = 'Take another --workdir, or leave --config out to resume this run.'
  if accept:
    advice = (
      f'These cannot change in a run that has trained. {another}give another '
      f'--workdir and --init_from={folder}.'
    )
  elif refused:
    advice = f'{leave} {another}add --init_from={folder}.'
  else:
    advice = (
      f'{leave} To resume with these changes, add --accept_changed_config.'
    )
  what = f'--workdir={folder} holds the run of another config. Different are:'
  shown = lines(old, new, refused if accept else keys)
  raise ValueError('\n'.join([what, *shown, advice]))


def may_change(key: str, old: dict, new: dict) -> bool:
  """Whether a run can resume from its checkpoint with another value."""
  if not _is_in(key, CHANGEABLE):
    return False
  values = get(old, key), get(new, key)
  match key:
    case (
      'optimizer.name' | 'optimizer.factor_from' | 'optimizer.moments_dtype'
    ):  # another state
      return False
    case 'train.ema_decay':  # the state has an average, or has none
      return all(values)
    case 'optimizer.b1':  # Adafactor keeps a mean if it is not 0
      return all(values) or new['optimizer']['name'] != 'adafactor'
    case 'train.phases':  # the places in the data depend on them
      return False
    case 'train.steps':  # stages are shares of it
      return new['tuning']['train'] != 'two_stage'
    case 'eval.source':  # without one, documents are held out of training
      return all(values)
  return True


def lines(old: dict, new: dict, keys: list[str]) -> list[str]:
  """A line for each key: its value in the run and now."""
  return [
    f'  {key}: {get(old, key)!r} there, {get(new, key)!r} now' for key in keys
  ]


def put(tree: dict, key: str, value: Any) -> None:
  """Sets the value of a dotted key; None removes a multiplier."""
  *groups, name = key.split('.')
  for group in groups:
    tree = tree[group]
  if value is None and groups[-1:] == ['multipliers']:
    tree.pop(name, None)
  else:
    tree[name] = value


def get(tree: dict, key: str) -> Any:
  """The value of a dotted key; None if there is none."""
  for part in key.split('.'):
    tree = tree.get(part) if isinstance(tree, dict) else None
  return tree


def _is_in(key: str, keys: tuple[str, ...]) -> bool:
  groups = tuple(x for x in keys if x.endswith('.'))
  return key in keys or key.startswith(groups)
