"""A run's folder: whose run it is, and that it stays that run's."""

import dataclasses
import functools
import json
import os

import jax
from ml_collections import ConfigDict

from configs.differences import changed_keys
from input_pipeline.config import DataConfig
from input_pipeline.sources import paths
from models.config import TransformerConfig
from train.parallel.sharding import AXES
from train.runs import changes, checksums, folders, history

NAME = 'config.json'
TOKENIZERS = 'tokenizer.model', 'tokenizer.json'
GROUPS = (  # of a config
  'model',
  'data',
  'optimizer',
  'schedule',
  'train',
  'eval',
  'checkpoint',
  'sharding',
)

# What a config has in the groups that no dataclass checks.
NEEDED = {
  'optimizer': (
    *('name', 'clip', 'weight_decay', 'b1', 'b2', 'epsilon', 'decay_rate'),
    *('epsilon1', 'epsilon2', 'clip_threshold', 'factor_from'),
    *('parameter_scale', 'bias_correction', 'multipliers'),
  ),
  'schedule': (
    *('name', 'learning_rate', 'warmup_steps', 'end_fraction'),
    *('constant_steps', 'decay_steps'),
  ),
  'train': ('steps', 'accumulate', 'z_loss', 'label_smoothing', 'log_every'),
  'eval': ('source', 'every', 'batches', 'samples'),
  'checkpoint': ('every', 'keep', 'keep_every'),
  'sharding': ('rules', 'mesh'),
  'sharding.mesh': AXES,
}

# What may change between two starts of a run: none of it changes a batch or the
# mathematics (data.epochs says only when the batches end).
FREE = (  # keys, or groups of keys
  'checkpoint.',
  'data.epochs',
  'data.threads',
  'data.max_bad_share',
  'data.tokenizer',  # its fingerprint is compared, wherever it lies
  'eval.batches',
  'eval.every',
  'eval.samples',
  'model.remat',
  'sharding.',
  'train.log_every',
)
# Keys that are younger than some runs, and what those did.
ADDED = {
  'checkpoint': {'best': ''},
  'optimizer': {'decay': 'matrices'},
  'train': {'max_logit_loss': 0.0},
}
# As long as there is a checkpoint whose fingerprint is compared with theirs.
MOVABLE = 'data.source', 'data.mixture', 'eval.source'


def read_config(folder: str) -> ConfigDict:
  """The config a workdir was begun with; its newest checkpoint's if it is lost.

  Each checkpoint holds the config too, with a checksum: NAME may differ from
  the newest one's in what may change between two starts or, by the run's
  history, was changed since, and in nothing else.

  Raises:
    ValueError: there is none, or one that is damaged or was edited.
  """
  path, saved = os.path.join(folder, NAME), _saved_path(folder)
  if not os.path.exists(path) and not saved:
    raise ValueError(
      f'--workdir={folder} holds no run yet (no {NAME}): give --config.'
    )
  if not os.path.exists(path):
    return _read_saved(folder, saved)
  config = _read(path)
  if not saved:
    return config
  old, new = (
    json.loads(x.to_json()) for x in (_read_saved(folder, saved), config)
  )
  changed = _bound(folder, old, new)
  if changed:
    raise ValueError(
      f"{path} was changed. Other than in the newest checkpoint's config are:\n"
      + '\n'.join(changes.lines(old, new, changed))
      + '\nBring the file back, or move it away: then the config in the newest '
      'checkpoint is taken.'
    )
  for key in changed_keys(old, new):
    then, now = changes.get(old, key), changes.get(new, key)
    kind = (int, float) if isinstance(then, float) else type(then)
    if not isinstance(now, kind):
      raise ValueError(
        f"{path}: {key} is {now!r}, where the newest checkpoint's config has "
        f'{then!r}: that is no value of its kind.'
      )
  return config


def at_step(saved: dict, config: ConfigDict) -> ConfigDict:
  """The config of a checkpoint, with the keys of `config` that may change.

  Args:
    saved: what the checkpoint holds; see `Checkpoints.run`.
    config: of the run, from `read_config`.
  """
  found = checked(saved, "The checkpoint's config").unlock()
  with found.ignore_type():
    for group in GROUPS:
      for key in config[group]:
        if is_free(f'{group}.{key}') or f'{group}.{key}' in MOVABLE:
          found[group][key] = config[group][key]
  return found.lock()


def _read(path: str) -> ConfigDict:
  """The config in NAME."""
  try:
    with open(path, encoding='utf-8-sig') as file:
      found = json.load(file)
  except (ValueError, RecursionError) as error:
    raise ValueError(_damaged(path, error)) from error
  return checked(found, path)


def _read_saved(folder: str, path: str) -> ConfigDict:
  """The config in a checkpoint's metadata, with what was changed since."""
  try:
    with open(path, encoding='utf-8') as file:
      found = json.load(file)['config']
    step = int(path.split(os.sep)[-3])
    for key, value in history.changed_keys(history.read(folder), step).items():
      changes.put(found, key, value)
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(_damaged(path, error)) from error
  return checked(found, path)


def _damaged(path, why):
  return (
    f'{path} is damaged: it is no config ({why}). Each checkpoint of the run '
    "holds the config too, as 'config' in run/metadata: move the file away, "
    "and the newest one's is taken."
  )


def checked(found: dict, path: str) -> ConfigDict:
  """A config as it was read from `path`, with the keys it is too old to have.

  Raises:
    ValueError: it lacks others.
  """
  try:
    missing = [name for name in GROUPS if not isinstance(found[name], dict)]
    missing += ['seed'] * (not isinstance(found['seed'], int))
  except (TypeError, KeyError) as error:
    missing = [str(error)]
  if missing:
    raise ValueError(_damaged(path, ', '.join(missing)))
  for name, keys in NEEDED.items():
    group = functools.reduce(dict.get, name.split('.'), found)
    if not isinstance(group, dict):
      raise ValueError(_damaged(path, f'{name} is {group!r}'))
    if missing := [key for key in keys if key not in group]:
      others = [key for key in group if key not in keys]
      raise ValueError(
        f'{path} is of another version of Treeline, or was changed by hand: '
        f'{name!r} lacks {_listed(missing)}, and has beside the usual keys '
        f'{_listed(others)}.'
      )
  for name, kind in (('model', TransformerConfig), ('data', DataConfig)):
    fields = dataclasses.fields(kind)
    unknown = found[name].keys() - {field.name for field in fields}
    needed = {x.name for x in fields if x.default is dataclasses.MISSING}
    missing = needed - found[name].keys()
    if unknown or missing:
      raise ValueError(
        f'{path} is of another version of Treeline, or was changed by hand: '
        f'in {name!r} it lacks {_listed(missing)}, and there is no '
        f'{_listed(unknown)}.'
      )
    found[name] = {
      x.name: x.default for x in fields if x.name not in needed
    } | found[name]
  for name, defaults in ADDED.items():
    found[name] = defaults | found[name]
  for group in (found, *(found[name] for name in GROUPS)):
    for key, value in group.items():
      group[key] = _tuples(value)
  return ConfigDict(found).lock()


def _listed(names):
  return ', '.join(sorted(names)) or 'nothing'


def _saved_path(folder):
  """The newest checkpoint's metadata that are whole; '' where there are none.

  Damaged ones are passed over: who reads the checkpoint reports them.
  """
  steps = os.path.join(folder, 'checkpoints')
  names = os.listdir(steps) if os.path.isdir(steps) else []
  for name in sorted(filter(str.isdigit, names), key=int, reverse=True):
    step = os.path.join(steps, name)
    path = os.path.join(step, 'run', 'metadata')
    if os.path.exists(path) and not checksums.damage(step, part='run/'):
      return path
  return ''


def _tuples(value):
  """Lists as tuples, which JSON does not have."""
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check(
  folder: str, config: ConfigDict, accept: bool = False
) -> dict[str, list]:
  """Makes sure that a workdir holds no run but this config's.

  A run that has not trained may get any other config.

  Args:
    folder: the workdir.
    config: of the start.
    accept: a run that has trained may get other values of
      `changes.CHANGEABLE`.

  Returns:
    What changes of the run by that: key -> [old value, new value].

  Raises:
    ValueError: it holds a run of another config; names the keys that differ.
  """
  folders.check_name(folder)
  saved = _saved_path(folder)
  if not saved and not os.path.exists(os.path.join(folder, NAME)):
    return {}
  # A config that is given need not agree with a NAME that was edited.
  config_then = _read_saved(folder, saved) if saved else read_config(folder)
  old, new = (json.loads(x.to_json()) for x in (config_then, config))
  keys, bound = changed_keys(old, new), _bound(folder, old, new)
  if accept and 'eval.source' in keys and 'eval.source' not in bound:
    bound.append('eval.source')
  if bound and history.trained(folder):
    changes.check(folder, old, new, bound, accept)
  if keys and jax.process_index() == 0:
    print(f'Changed since {folder} was begun: {", ".join(keys)}.', flush=True)
  return {key: [changes.get(old, key), changes.get(new, key)] for key in bound}


def _bound(folder, old, new):
  """The keys in which two configs of a run differ but may not."""
  others = MOVABLE if _holds_files(os.path.join(folder, 'checkpoints')) else ()
  endless = new['schedule']['name'] in ('constant', 'inverse_sqrt')
  same = old['schedule']['name'] == new['schedule']['name']
  if endless and same and not new['data']['curriculum']:
    others = *others, 'train.steps'
  return [
    key
    for key in changed_keys(old, new)
    if not is_free(key) and key not in others
  ]


def claim(folder: str, config: ConfigDict) -> None:
  """Writes the config into the workdir: from now on it is this run's.

  Raises:
    OSError: it cannot be written to.
  """
  text = json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())
  folders.done(folder)


def put_tokenizer_aside(folder: str, changed: bool = False) -> None:
  """Renames a tokenizer that a start left which failed before its first step.

  A run that has begun keeps its tokenizer, unless its config `changed` before
  it had a checkpoint.
  """
  whole = _holds_files(os.path.join(folder, 'checkpoints')) or history.trained(
    folder
  )
  if whole or (begun(folder) and not changed):
    return
  for name in TOKENIZERS:
    path = os.path.join(folder, name)
    if os.path.exists(path):
      os.replace(path, f'{path}.unused')


def begun(folder: str) -> bool:
  """Whether a run has left anything worth keeping."""
  metrics = os.path.join(folder, 'metrics.jsonl')
  return (
    os.path.exists(metrics) and os.path.getsize(metrics) > 0
  ) or _holds_files(os.path.join(folder, 'checkpoints'))


def _holds_files(folder: str) -> bool:
  return os.path.isdir(folder) and any(os.scandir(folder))


def is_free(key: str) -> bool:
  """Whether a key may change between two starts of a run."""
  return key in FREE or key.startswith(
    tuple(free for free in FREE if free.endswith('.'))
  )
