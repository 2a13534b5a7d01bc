"""Examples of a labelled task from a prepared TFDS dataset."""

import os
from collections.abc import Iterator
from typing import Any

from input_pipeline.tasks.task import Example, Task


def records(name: str, split: str, task: Task) -> Iterator[Example]:
  """The records of `split` of the dataset `name`, in plain Python values.

  Classes are their names, or None where TFDS has -1.

  Raises:
    ValueError: the dataset or the split is not in TFDS_DATA_DIR, or its classes
      are not those of the task.
  """
  import tensorflow as tf
  import tensorflow_datasets as tfds

  where = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  try:
    builder = tfds.core.read_only_builder.builder_from_files(name)
  except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
    raise ValueError(
      f'the dataset {name!r} is not prepared in TFDS_DATA_DIR={where}:'
      f' {str(error).splitlines()[0]} Prepare it there with TFDS, or name the'
      f' folder of the published files in data.task_folder (docs/tasks.md).'
    ) from error
  features = builder.info.features
  if split not in builder.info.splits:
    raise ValueError(
      f'the dataset {name!r} in TFDS_DATA_DIR={where} has no split {split!r},'
      f' only {", ".join(sorted(builder.info.splits))}. Prepare it again.'
    )
  classes = dict(features.items()).get(task.label)
  classes = getattr(classes, 'feature', classes)  # of a sequence
  names = getattr(classes, 'names', None)
  if names and task.labels and tuple(names) != task.labels:
    raise ValueError(
      f'the classes of the dataset {name!r} are {names}, those of the task'
      f' {list(task.labels)}. Prepare the version that docs/tasks.md names.'
    )
  # TensorFlow would take the memory of the accelerators that jax works with.
  for kind in ('GPU', 'TPU'):
    tf.config.set_visible_devices([], kind)
  for record in tfds.as_numpy(builder.as_dataset(split=split)):
    yield _plain(record, features)


def _plain(value: Any, feature: Any) -> Any:
  """A value of TFDS in plain Python: texts, numbers, lists, dicts."""
  if hasattr(feature, 'int2str'):
    if hasattr(value, 'tolist') and getattr(value, 'ndim', 0):
      return [_plain(x, feature) for x in value]
    return None if value < 0 else feature.int2str(int(value))
  if isinstance(value, dict):
    inner = getattr(feature, 'feature', feature)
    return {name: _plain(x, inner[name]) for name, x in value.items()}
  if isinstance(value, bytes):
    return value.decode()
  if hasattr(value, 'to_list'):  # ragged
    return _texts(value.to_list())
  if getattr(value, 'ndim', 0):
    inner = getattr(feature, 'feature', feature)
    return [_plain(x, inner) for x in value]
  return value.item() if hasattr(value, 'item') else value


def _texts(value):
  if isinstance(value, list):
    return [_texts(x) for x in value]
  return value.decode() if isinstance(value, bytes) else value
