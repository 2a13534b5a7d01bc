"""A run's folder: whose run it is, and that it stays that run's."""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from input_pipeline import paths
from input_pipeline.config import DataConfig
from models.config import TransformerConfig

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
ADDED = {'optimizer': {'decay': 'matrices'}, 'train': {'max_logit_loss': 0.0}}
# As long as there is a checkpoint whose fingerprint is compared with theirs.
MOVABLE = 'data.source', 'data.mixture', 'eval.source'


def read_config(folder: str) -> ConfigDict:
  """The config a workdir was begun with; its newest checkpoint's if it is lost.

  Raises:
    ValueError: there is none, or a damaged one.
  """
  path = _config_path(folder)
  if not path:
    raise ValueError(
      f'--workdir={folder} holds no run yet (no {NAME}): give --config.'
    )
  try:
    with open(path) as file:
      found = json.load(file)
    if os.path.basename(path) != NAME:
      found = found['config']
    missing = [name for name in GROUPS if not isinstance(found[name], dict)]
    missing += ['seed'] * (not isinstance(found['seed'], int))
  except (ValueError, TypeError, KeyError) as error:
    missing = [str(error)]
  if missing:
    raise ValueError(
      f'{path} is damaged: it is no config ({", ".join(missing)}). Each '
      f'checkpoint in {os.path.join(folder, "checkpoints")} holds the config '
      "too, as 'config' in run/metadata: move the file away, and the newest "
      "one's is taken."
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


def _config_path(folder):
  """The file that holds a run's config; '' where there is no run."""
  steps = os.path.join(folder, 'checkpoints')
  names = os.listdir(steps) if os.path.isdir(steps) else []
  newest = sorted((n for n in names if n.isdigit()), key=int, reverse=True)
  places = [os.path.join(steps, n, 'run', 'metadata') for n in newest]
  places = [os.path.join(folder, NAME), *places]
  return next(filter(os.path.exists, places), '')


def _tuples(value):
  """Lists as tuples, which JSON does not have."""
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_name(folder: str) -> None:
  """Refuses a backslash: TensorStore, which writes the arrays, reads it as '/'.

  Raises:
    ValueError: there is one in the folder's absolute path.
  """
  if '\\' in os.path.abspath(folder):
    raise ValueError(
      f'--workdir={folder}: {os.path.abspath(folder)} has a backslash in it, '
      'and checkpoints cannot be kept below such a name. Give or rename it '
      'without.'
    )


def make(folder: str) -> None:
  """Makes the folder, if need be, and sees that files can be written there.

  Raises:
    ValueError: it has a backslash in its path.
    OSError: they cannot.
  """
  check_name(folder)
  try:
    os.makedirs(folder, exist_ok=True)
    probe = os.path.join(folder, '.writable')
    paths.write(probe, b'x')
    os.remove(probe)
  except OSError as error:
    raise OSError(
      f'--workdir={folder}: no files can be written there '
      f'({error.strerror}). Give a folder on a writable disk with space on it.'
    ) from error


def lock(folder: str) -> object:
  """Makes this process the only one that trains there, while the result lives.

  The system ends it with the process, however that ends. On disks without locks
  nothing is locked.

  Raises:
    ValueError: another process trains there.
  """
  file = open(os.path.join(folder, '.lock'), 'a+')  # noqa: SIM115
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    raise ValueError(
      f'--workdir={folder}: another process trains there ({file.read()}). End '
      'it, or take another --workdir.'
    ) from None
  except OSError:
    return file
  file.truncate(0)
  file.write(f'process {os.getpid()} on {socket.gethostname()}')
  file.flush()
  return file


@contextlib.contextmanager
def made(folder: str) -> Iterator[None]:
  """The folder, made if need be; a failure takes back what was made.

  Raises:
    OSError: no files can be written there.
  """
  before = set(os.listdir(folder)) if os.path.isdir(folder) else set()
  new = []  # the folders that are made, the innermost first
  path = os.path.abspath(folder)
  while not os.path.exists(path):
    new.append(path)
    path = os.path.dirname(path)
  try:
    make(folder)
    yield
  except BaseException:
    if os.path.isdir(folder):
      for name in set(os.listdir(folder)) - before:
        _remove(os.path.join(folder, name))
    with contextlib.suppress(OSError):  # others may have used them since
      for path in new:
        os.rmdir(path)
    raise


def _remove(path: str) -> None:
  if os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path, ignore_errors=True)
  else:
    os.remove(path)


def check(folder: str, config: ConfigDict) -> None:
  """Makes sure that a workdir holds no run but this config's.

  A folder in which a start failed before its first step holds no run.

  Raises:
    ValueError: it holds a run of another config; names the keys that differ.
  """
  check_name(folder)
  if not _config_path(folder):
    return
  old = json.loads(read_config(folder).to_json())
  if begun(folder):
    _check_same(folder, old, config)
  keys = differences(old, json.loads(config.to_json()))
  if keys and jax.process_index() == 0:
    print(f'Changed since {folder} was begun: {", ".join(keys)}.', flush=True)


def _check_same(folder, old, config):
  """Raises ValueError unless a config goes on with the run of the `old` one."""
  new = json.loads(config.to_json())
  endless = new['schedule']['name'] in ('constant', 'inverse_sqrt')
  others = MOVABLE if _holds_files(os.path.join(folder, 'checkpoints')) else ()
  if endless and not new['data']['curriculum']:
    others = *others, 'train.steps'
  bound = [
    key
    for key in differences(old, new)
    if not is_free(key) and key not in others
  ]
  if bound:
    raise ValueError(
      f'--workdir={folder} holds the run of another config. Different are:\n'
      + '\n'.join(
        f'  {key}: {_get(old, key)!r} there, {_get(new, key)!r} now'
        for key in bound
      )
      + '\nTake another --workdir, or leave --config out to go on with it.'
    )


def claim(folder: str, config: ConfigDict) -> None:
  """Writes the config into the workdir: from now on it is this run's.

  Raises:
    OSError: it cannot be written to.
  """
  text = json.dumps(json.loads(config.to_json()), indent=2, sort_keys=True)
  paths.write(os.path.join(folder, NAME), f'{text}\n'.encode())


def put_tokenizer_aside(folder: str) -> None:
  """Renames a tokenizer that a start left which failed before its first step.

  A run that has begun keeps its tokenizer.
  """
  for name in TOKENIZERS:
    path = os.path.join(folder, name)
    if os.path.exists(path) and not begun(folder):
      os.replace(path, f'{path}.unused')


def begun(folder: str) -> bool:
  """Whether a run has left anything worth keeping."""
  metrics = os.path.join(folder, 'metrics.jsonl')
  return (
    os.path.exists(metrics) and os.path.getsize(metrics) > 0
  ) or _holds_files(os.path.join(folder, 'checkpoints'))


def _holds_files(folder: str) -> bool:
  return os.path.isdir(folder) and any(os.scandir(folder))


def differences(old: dict, new: dict, prefix: str = '') -> list[str]:
  """The dotted keys whose values differ or that only one of two dicts has."""
  found = []
  for key in sorted(old.keys() | new.keys()):
    a, b = old.get(key), new.get(key)
    if isinstance(a, dict) and isinstance(b, dict):
      found += differences(a, b, f'{prefix}{key}.')
    elif a != b:
      found.append(f'{prefix}{key}')
  return found


def is_free(key: str) -> bool:
  """Whether a key may change between two starts of a run."""
  return key in FREE or key.startswith(
    tuple(free for free in FREE if free.endswith('.'))
  )


def _get(tree: dict, key: str):
  for part in key.split('.'):
    tree = tree.get(part) if isinstance(tree, dict) else None
  return tree
