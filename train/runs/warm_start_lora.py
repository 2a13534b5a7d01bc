"""Begins a run with the parameters of a run that trained LoRA's factors."""

from collections.abc import Mapping

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from train.learning import lora
from train.runs.checkpoint import Checkpoints
from train.runs.storage import Shapes

_BEFORE = f'params/{lora.KEY}/'


def merged(
  folder: str, there: Shapes, here: Shapes, old: Mapping, new: ConfigDict
) -> tuple[str, ...]:
  """The names of the source's factors to merge; () if the new run has factors.

  Args:
    folder: the source's workdir, for messages.
    there: shapes of the source, by path.
    here: shapes of the new run.
    old: the source's config.
    new: the new run's.

  Raises:
    ValueError: both have factors, but alpha / R differs: the model would
      compute something else.
  """
  factors = tuple(name for name in sorted(there) if name.startswith(_BEFORE))
  if not factors or not any(name.startswith(_BEFORE) for name in here):
    return factors
  if _scale(old) != _scale(new):
    theirs, ours = old['tuning'], new.tuning
    raise ValueError(
      f"The checkpoint in {folder} has LoRA's factors for tuning.alpha="
      f'{theirs["alpha"]} and tuning.rank={theirs["rank"]}; with alpha='
      f'{ours.alpha} and rank={ours.rank} the model would compute something '
      "else. Set both keys to the checkpoint's values."
    )
  return ()


def restore(
  checkpoints: Checkpoints,
  step: int,
  wanted: dict,
  factors: tuple[str, ...],
  mesh: Mesh,
  part: str = 'params',
) -> dict:
  """Parameters of a checkpoint, with factors merged into them.

  Args:
    checkpoints: of the source.
    step: of the checkpoint.
    wanted: by path, ShapeDtypeStruct with shardings.
    factors: from `merged`. Each device reads all of them: they are small.
    mesh: of the new run.
    part: of the state; 'average' if the source has no factors.

  Returns:
    The wanted arrays, by path.
  """
  shapes = checkpoints.shapes(step) if factors else {}
  if factors:  # the sums are made in float32, whatever type is kept
    wanted = {name: x.update(dtype='float32') for name, x in wanted.items()}
  place = NamedSharding(mesh, PartitionSpec())
  more = {
    name.removeprefix('params/'): jax.ShapeDtypeStruct(
      shapes[name], 'float32', sharding=place
    )
    for name in factors
  }
  tree = {part: unflatten_dict(wanted | more, sep='/')}
  params = checkpoints.restore_some(tree, step)[part]
  if factors:
    params = lora.merge(params, _scale(checkpoints.run(step)['config']))
  return flatten_dict(params, sep='/')


def _scale(config: Mapping) -> float:
  return config['tuning']['alpha'] / config['tuning']['rank']
