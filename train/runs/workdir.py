"""A run's folder: its config.json, and the rule that a folder has one run."""

import dataclasses
import functools
import json
import os
from typing import Any

import jax
from ml_collections import ConfigDict

from configs.commands import terminal
from configs.differences import changed_keys
from input_pipeline.config import DataConfig
from input_pipeline.sources import paths
from input_pipeline.tokenizers.settings import CHAT_TEMPLATE
from models.config import TransformerConfig
from train.parallel.sharding import AXES
from train.runs import changes, checksums, folders, history

NAME = 'config.json'
TOKENIZERS = 'tokenizer.model', 'tokenizer.json'
KEPT = (*TOKENIZERS, CHAT_TEMPLATE)  # what a run copies of its data's settings
GROUPS = (  # every config has these
  *('model', 'data', 'optimizer', 'tuning', 'align', 'schedule'),
  *('train', 'eval', 'checkpoint', 'sharding'),
)

# Keys that every config has in the groups that no dataclass checks.
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

# Keys that older runs do not have, with the values that do what those did.
ADDED = {
  'checkpoint': {'best': ''},
  'eval': {'beams': 1, 'length_penalty': 0.6, 'ranked': False, 'sources': ()},
  'optimizer': {
    'decay': 'matrices',
    'decay_except': (),
    'moments_dtype': 'float32',
    'momentum': None,
    'matrix_rate': None,
  },
  'schedule': {'unit': 'steps', 'first_step': 0, 'restarts': ()},
  'train': {
    'max_logit_loss': 0.0,
    'ema_decay': 0.0,
    'dropout_until': 0,
    'loss_chunk': 0,
    'accumulate_dtype': 'float32',
    'epochs': 0.0,
    'warmup_share': 0.0,
    'phases': (),
    'spike_factor': 0.0,
    'spike_window': 0,
    'spike_back': 0,
    'spike_skip': 0,
  },
  'sharding': {
    'slices': 0,
    'topology': '',
    'context': 'gather',
    'compiler_options': (),
    'microbatches': 0,
    'repeats': 1,
  },
  'tuning': {
    'train': 'all',
    'rank': 0,
    'alpha': 0.0,
    'matrices': (),
    'base_dtype': '',
    'layer_decay': 0.0,
  },
  'align': {
    'method': '',
    'beta': 0.0,
    'margin': 0.0,
    'desirable_weight': 0.0,
    'undesirable_weight': 0.0,
    'rewards': (),
    'filters': (),
    'reward_seconds': 0.0,
    'reward_memory': 0,
    'samples': 0,
    'answer_length': 0,
    'epochs': 0,
    'minibatches': 0,
    'clip': 0.0,
    'value_clip': 0.0,
    'value_weight': 0.0,
    'discount': 0.0,
    'gae_decay': 0.0,
    'kl_target': 0.0,
  },
}


def read_config(folder: str) -> ConfigDict:
  """A run's config: that of config.json, or else of its newest checkpoint.

  Each checkpoint holds the config too, with a checksum. config.json may differ
  from the newest one's only in keys that may change between two starts, and in
  changes that the run's history records. Raises ValueError if there is no
  config, or it is damaged or was edited.
  """
  path, saved = os.path.join(folder, NAME), _saved_path(folder)
  if not paths.exists(path):
    if saved:
      return _read_saved(folder, saved)
    raise ValueError(
      f'{folder} holds no run yet (no {NAME}). To begin one, give a config: '
      f'python -m train --config=FILE --workdir={folder}'
    )
  try:
    found = json.loads(paths.read(path).decode('utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise ValueError(_damaged(path, error)) from error
  config = checked(found, path)
  if not saved:
    return config
  old, new = plain(_read_saved(folder, saved)), plain(config)
  changed = changes.fixed(old, new, _has_checkpoints(folder))
  if changed:
    raise ValueError(
      f'{path} was changed. It and the config in the newest checkpoint differ '
      'in:\n'
      + '\n'.join(changes.lines(old, new, changed))
      + '\nBring the file back, or move it away: the config in the newest '
      'checkpoint is then used.'
    )
  for key in changed_keys(old, new):
    then, now = changes.get(old, key), changes.get(new, key)
    kind = (int, float) if isinstance(then, float) else type(then)
    if not isinstance(now, kind):
      raise ValueError(
        f"{path}: {key} is {now!r}, where the newest checkpoint's config has "
        f'{then!r}: that is a value of another type.'
      )
  return config


def plain(config: ConfigDict) -> dict:
  """The config as JSON holds it: dicts, and lists in place of tuples."""
  return json.loads(config.to_json())


def at_step(saved: dict, config: ConfigDict) -> ConfigDict:
  """A checkpoint's config, with the run's values of keys that may change."""
  found = checked(saved, "The checkpoint's config").unlock()
  with found.ignore_type():
    for group in GROUPS:
      for key in config[group]:
        name = f'{group}.{key}'
        if changes.is_free(name) or name in changes.MOVABLE:
          found[group][key] = config[group][key]
  return found.lock()


def _read_saved(folder: str, path: str) -> ConfigDict:
  """The config in a checkpoint's metadata, with the changes made since."""
  try:
    found = json.loads(paths.read(path))['config']
    step = int(path.split(os.sep)[-3])
    changed = history.keys_changed_since(history.read(folder), step)
    for key, value in changed.items():
      changes.put(found, key, value)
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise ValueError(_damaged(path, error)) from error
  return checked(found, path)


def _damaged(path: str, why: object) -> str:
  return (
    f'{path} is damaged: it is not a config ({why}). Each checkpoint of the '
    "run holds the config too, as 'config' in run/metadata: move the file "
    "away, and the newest one's is used."
  )


def checked(found: dict, path: str) -> ConfigDict:
  """The config found in `path`, with the keys that it is too old to have.

  Raises ValueError if it lacks other keys, or has unknown ones.
  """

  def other_version(name, missing, unknown):
    missing, unknown = (
      ', '.join(sorted(x)) or 'none' for x in (missing, unknown)
    )
    return ValueError(
      f'{path} is of another version of Treeline, or was changed by hand: '
      f'{name!r} lacks {missing}; its unknown keys are {unknown}.'
    )

  if isinstance(found, dict) and found.keys() <= {*GROUPS, 'seed'}:
    found = {'tuning': {}, 'align': {}} | found  # an older run's
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
    if missing := set(keys) - group.keys():
      raise other_version(name, missing, group.keys() - keys)
  if found['data'].pop('curriculum', ()):
    raise ValueError(
      f'{path} has data.curriculum, which train.phases replaced. The version '
      'of Treeline that began its run can resume, evaluate and export it.'
    )
  for name, kind in (('model', TransformerConfig), ('data', DataConfig)):
    fields = [x for x in dataclasses.fields(kind) if x.name != 'phases']
    unknown = found[name].keys() - {field.name for field in fields}
    needed = {x.name for x in fields if x.default is dataclasses.MISSING}
    missing = needed - found[name].keys()
    if unknown or missing:
      raise other_version(name, missing, unknown)
    defaults = {x.name: x.default for x in fields if x.name not in needed}
    found[name] = defaults | found[name]
  for name, defaults in ADDED.items():
    found[name] = defaults | found[name]
  return ConfigDict(_tuples(found)).lock()


def _saved_path(folder: str) -> str:
  """The path of the newest undamaged metadata of a checkpoint; '' if none.

  Damaged ones are skipped: whoever reads the checkpoint reports them.
  """
  for step in reversed(history.saved_steps(folder)):
    place = os.path.join(folder, 'checkpoints', str(step))
    path = os.path.join(place, 'run', 'metadata')
    if paths.exists(path) and not checksums.damage(place, part='run/'):
      return path
  return ''


def _tuples(value: Any) -> Any:
  """The value with tuples, which JSON does not have, in place of lists."""
  if isinstance(value, dict):
    return {key: _tuples(x) for key, x in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check(
  folder: str, config: ConfigDict, accept: bool = False
) -> dict[str, list]:
  """Makes sure that a workdir holds no run but this config's.

  A run that has not trained may get any other config. With `accept`, one that
  has trained may get other values of `changes.CHANGEABLE`. Raises ValueError,
  which lists the keys that differ, if it holds a run of another config.

  Returns:
    The changes that are accepted so: key -> [old value, new value].
  """
  folders.check_name(folder)
  saved = _saved_path(folder)
  if not saved and not paths.exists(os.path.join(folder, NAME)):
    return {}
  # An edited config.json does not matter: --config has all keys.
  config_then = _read_saved(folder, saved) if saved else read_config(folder)
  old, new = plain(config_then), plain(config)
  keys = changed_keys(old, new)
  fixed = changes.fixed(old, new, _has_checkpoints(folder))
  if accept and 'eval.source' in keys and 'eval.source' not in fixed:
    fixed.append('eval.source')
  if fixed and history.trained(folder):
    changes.check(folder, old, new, fixed, accept)
  if keys and jax.process_index() == 0:
    terminal.say(f'Changed since {folder} was begun: {", ".join(keys)}.')
  return {key: [changes.get(old, key), changes.get(new, key)] for key in fixed}


def claim(folder: str, config: ConfigDict) -> None:
  """Writes the config into the workdir, which now belongs to this run."""
  text = json.dumps(plain(config), indent=2, sort_keys=True)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())
  folders.done(folder)


def put_tokenizer_aside(folder: str, changed: bool = False) -> None:
  """Renames what a start that failed before its first step has KEPT.

  A run that has begun goes on with it, unless its config `changed` before
  it had a checkpoint.
  """
  if _has_checkpoints(folder) or history.trained(folder):
    return
  if begun(folder) and not changed:
    return
  for name in KEPT:
    path = os.path.join(folder, name)
    if paths.exists(path):
      paths.move(path, f'{path}.unused')


def begun(folder: str) -> bool:
  """Whether a run has left anything worth keeping."""
  metrics = os.path.join(folder, 'metrics.jsonl')
  has_metrics = paths.exists(metrics) and paths.size(metrics) > 0
  return has_metrics or _has_checkpoints(folder)


def _has_checkpoints(folder: str) -> bool:
  return bool(paths.names(os.path.join(folder, 'checkpoints')))
