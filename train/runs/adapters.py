"""Several adapters in one workdir, over one stored base.

  W/base/            a checkpoint of the model's parameters; the tokenizer, and
                     the chat template if that is a file
  W/adapters/NAME/   a run, whose checkpoints leave out what stays as in there

`--workdir=W --adapter=NAME` names the second folder, which is a workdir like
any other: `--workdir=W/adapters/NAME` is the same. The first adapter's run
stores the base: all parameters but its factors and what answers its task. Later
ones begin with it, unless they name a source of their own, whose parameters
must then be the same to the last bit. A checkpoint has the digest of the base
that it belongs to.
"""

import functools
import json
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from flax.traverse_util import flatten_dict, unflatten_dict

from input_pipeline.sources import hashes, paths
from train.learning.state import TrainState
from train.learning.tuning import TRUNK, Tuning, is_added
from train.parallel import processes
from train.runs import checksums, history, warm_start_arrays, workdir
from train.runs.checkpoint import CheckpointError, Checkpoints
from train.setup import Setup

BASE, ADAPTERS = 'base', 'adapters'
MARK = 'ABOUT.txt'  # in BASE, from the start
STEP = 0  # of the base's checkpoint
LEFT_OUT = 'left_out'  # beside BASE in a checkpoint's metadata: names
_ABOUT = (
  'The parameters that the runs in ../adapters begin with. Their checkpoints '
  'leave out those that stay as they are here.\n'
)


def define_flag(text: str = '') -> flags.FlagHolder:
  """The flag --adapter."""
  return flags.DEFINE_string(
    'adapter', '', text or 'Of several in --workdir: the name of one.'
  )


def folder(parent: str, name: str) -> str:
  """The workdir of a run that is there: `parent`, or that of an adapter in it.

  Raises:
    ValueError: `parent` holds adapters and no run, and none is named; or it has
      none of this name.
  """
  place = os.path.join(parent, ADAPTERS)
  names = sorted(paths.names(place)) if paths.is_folder(place) else []
  # A start that was refused has left a folder, and is no adapter.
  there = [x for x in names if workdir.begun(os.path.join(place, x))]
  if not name:
    if there and not workdir.begun(parent):
      raise ValueError(
        f'--workdir={parent} holds adapters: add --adapter=NAME, one of '
        f'{", ".join(there)}.'
      )
    return parent
  if name not in there:
    raise ValueError(
      f'--adapter={name}: there is no such adapter in {parent}; there are: '
      f'{", ".join(there) or "none"}.'
    )
  return os.path.join(place, name)


def begin(parent: str, name: str) -> str:
  """As `folder`, for a run that may be new: its base will be stored apart.

  Raises:
    ValueError: the name cannot be that of a folder.
  """
  if not name:
    return parent
  if not re.fullmatch(r'[\w][\w.\-]*', name):
    raise ValueError(
      f"--adapter={name!r} must be of letters, digits, '_', '-' and '.', and "
      'begin with a letter or a digit.'
    )
  mark = os.path.join(parent, BASE, MARK)
  if jax.process_index() == 0 and not paths.exists(mark):
    paths.make_folder(os.path.dirname(mark))
    paths.write(mark, _ABOUT.encode())
  processes.wait_for_all('adapters')
  return os.path.join(parent, ADAPTERS, name)


def base_of(run: str) -> str:
  """The folder of an adapter's base; '' of a run that stores all of its own."""
  place, _ = os.path.split(run.rstrip('/'))
  parent, name = os.path.split(place)
  base = os.path.join(parent, BASE)
  known = name == ADAPTERS and paths.exists(os.path.join(base, MARK))
  return base if known else ''


def stored(run: str) -> str:
  """The folder of an adapter's base if it is stored by now; or ''."""
  base = base_of(run)
  return base if base and history.saved_steps(base) else ''


def source(run: str, given: str) -> str:
  """What a new run begins with: `given`, or the stored base; '' if neither."""
  return given if given or workdir.begun(run) else stored(run)


def open_checkpoints(run: str, *args: Any, **settings: Any) -> Checkpoints:
  """The checkpoints of a run, with its base if that is stored apart."""
  kind = AdapterCheckpoints if base_of(run) else Checkpoints
  return kind(run, *args, **settings)


class AdapterCheckpoints(Checkpoints):
  """Checkpoints of an adapter, without what is frozen and in the base.

  Every method takes and returns whole states, as those of `Checkpoints`.
  """

  def __init__(self, run: str, *args: Any, **settings: Any):
    super().__init__(run, *args, **settings)
    self._place = base_of(run)

  @functools.cached_property
  def _base(self):
    """The base's checkpoint; there is none before `store`."""
    return Checkpoints(self._place, read_only=True)

  @functools.cached_property
  def _shapes(self):
    """Shapes in the base, by path."""
    return self._base.shapes(self._base.find(STEP))

  def digest(self) -> str:
    """sha256 of the base's checksums."""
    self._base.find(STEP)
    path = self._base.folder / str(STEP) / checksums.NAME
    return hashes.file_sha256(os.fspath(path))

  def _check(self, step: int) -> None:
    if step in self._whole:
      return
    super()._check(step)
    if self.run(step).get(BASE) != self.digest():
      self._whole.discard(step)
      raise CheckpointError(
        f'{self._place} holds another base than the one that the adapter was '
        'trained on: put that one back'
      )

  def save(self, state: TrainState, step: int, run: dict) -> None:
    tuning = Tuning(run['config']['tuning']['train'])
    own = {
      path: x
      for path, x in flatten_dict(state.params).items()
      if tuning.is_trained(path) or _named(path) not in self._shapes
    }
    left = [*map(_named, flatten_dict(state.params).keys() - own.keys())]
    run = run | {BASE: self.digest(), LEFT_OUT: sorted(left)}
    super().save(state.replace(params=unflatten_dict(own)), step, run)

  def _parted(self, tree, step):
    """A tree of parameters -> what a checkpoint has, what the base has."""
    saved, parts = super().shapes(step), ({}, {})
    for path, x in flatten_dict(tree).items():
      parts[_named(path) not in saved][path] = x
    return [unflatten_dict(part) for part in parts]

  def _joined(self, own, frozen):
    """Parameters of a checkpoint, and those of the base."""
    if not frozen:
      return own
    found = self._base.restore_some({'params': frozen}, STEP)['params']
    return unflatten_dict(flatten_dict(own) | flatten_dict(found))

  def restore(self, abstract: TrainState, step: int) -> TrainState:
    own, frozen = self._parted(abstract.params, step)
    state = super().restore(abstract.replace(params=own), step)
    return state.replace(params=self._joined(state.params, frozen))

  def restore_params(
    self, abstract: Any, step: int, part: str = 'params'
  ) -> Any:
    own, frozen = self._parted(abstract, step)
    return self._joined(super().restore_params(own, step, part), frozen)

  def restore_some(self, abstract: dict, step: int) -> dict:
    ((part, wanted),) = abstract.items()
    own, frozen = self._parted(wanted, step)
    found = super().restore_some({part: own}, step)[part] if own else {}
    return {part: self._joined(found, frozen)}

  def shapes(self, step: int) -> dict:
    return self._needed(step) | super().shapes(step)

  def restore_arrays(self, step: int, *parts: str) -> dict:
    found = super().restore_arrays(step, *parts)
    if 'params' in found:
      base = flatten_dict(self._base.restore_arrays(STEP, 'params')['params'])
      kept = self._needed(step)
      base = {path: x for path, x in base.items() if _named(path) in kept}
      found['params'] = unflatten_dict(base | flatten_dict(found['params']))
    return found

  def _needed(self, step):
    """Shapes of what the base has and the checkpoint's model needs.

    The base may have a part of a head that this model does not have.
    """
    named = self.run(step)[LEFT_OUT]
    return {name: self._shapes[name] for name in named}


def _named(path):
  """A parameter's name in the state."""
  return '/'.join(('params', *path))


def store(run: str, setup: Setup, params: dict, data: dict) -> None:
  """Stores an adapter's base, or makes sure that the one there is the same.

  Does nothing for a run that stores all of its own.

  Args:
    run: the adapter's workdir, which has its tokenizer.
    setup: of the run.
    params: of the state's tree, before the first step.
    data: the fingerprint of the run's data.

  Raises:
    ValueError: nothing is frozen, or the base there differs.
    CheckpointError: it cannot be written.
  """
  base = base_of(run)
  if not base:
    return
  flat = flatten_dict(params)
  kept = {
    path: x
    for path, x in flat.items()
    if not is_added(path) and not warm_start_arrays.answers(_named(path))
  }
  if stored(run):
    _compare(run, base, kept)
    return
  plain = workdir.plain(setup.config)
  plain['tuning'] = workdir.ADDED['tuning']
  if any(warm_start_arrays.answers(_named(path)) for path in flat):
    plain['model']['head'] = 'none'  # what answers is not in the base
  for name in workdir.KEPT:
    path = os.path.join(run, name)
    if jax.process_index() == 0 and paths.exists(path):
      paths.write(os.path.join(base, name), paths.read(path))
  with Checkpoints(base) as checkpoints:
    about = json.loads(json.dumps({'config': plain, 'data': data}))
    checkpoints.save({'params': unflatten_dict(kept)}, STEP, about)
    checkpoints.wait()


def check(run: str, setup: Setup) -> None:
  """Raises ValueError if an adapter's run has no base to leave out."""
  if not base_of(run):
    return
  train, decay = setup.config.tuning.train, setup.config.train.ema_decay
  if decay or not setup.tuning.split(setup.state.params)[1]:
    raise ValueError(
      f'--adapter stores what is frozen once, but with tuning.train={train} '
      f'and train.ema_decay={decay} nothing is: set tuning.train to lora, '
      'adapters or head, and keep no average.'
    )


def _compare(run, base, kept):
  """Raises ValueError unless the stored base is `kept`, to the last bit."""
  checkpoints = Checkpoints(base, read_only=True)
  there = checkpoints.shapes(checkpoints.find(STEP))
  here = {_named(path): x for path, x in kept.items()}
  trunk = {x for x in here.keys() ^ there.keys() if x.split('/')[1] in TRUNK}
  differ = sorted(trunk) or [
    name
    for name, x in sorted(here.items())
    if there.get(name, x.shape) != x.shape
  ]
  for name in sorted(here.keys() & there.keys()):
    if differ:
      break
    x = here[name]
    like = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    tree = unflatten_dict({name: like}, sep='/')
    (found,) = jax.tree.leaves(checkpoints.restore_some(tree, STEP))
    differ = [] if bool(jnp.array_equal(found, x)) else [name]
    if differ and jnp.array_equal(found, x.astype('bfloat16').astype(x.dtype)):
      raise ValueError(
        f'{base} was stored in bfloat16, and the base of '
        f'{os.path.basename(run)} is in {x.dtype}: {name} is the same but for '
        'rounding. Set tuning.base_dtype=bfloat16, or leave --from and '
        '--init_from out to begin with the stored base.'
      )
  if differ:
    raise ValueError(
      f'{base} is another base: {differ[0]} differs. The adapters of a workdir '
      'have one base: leave --from and --init_from out to begin with it, or '
      f'take another --workdir for {os.path.basename(run)}.'
    )
