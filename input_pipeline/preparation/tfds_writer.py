"""Datasets in the format of TensorFlow Datasets, written without Beam."""

import os
import re
import tempfile
from typing import Any

from input_pipeline.preparation import shards
from input_pipeline.sources import files, paths

# Fields of TFDS's own C4 that allenai/c4 publishes.
FIELDS = ('text', 'timestamp', 'url')


def folder(out: str, name: str) -> tuple[str, str]:
  """NAME[/CONFIG][:VERSION] -> the dataset's folder in `out`, its NAME."""
  if not re.fullmatch(r'[a-z]\w*(/[\w.-]+)?(:\d+\.\d+\.\d+)?', name):
    raise ValueError(
      f'--tfds={name!r} must be NAME[/CONFIG][:VERSION], such as c4/en:3.1.0.'
    )
  name, _, version = name.partition(':')
  place = os.path.join(out, *name.split('/'), version or '1.0.0')
  return place, name.split('/')[0]


def open_writer(path: str, suffix: str) -> Any:
  """A writer of records, to be closed."""
  if suffix == 'array_record':
    from array_record.python import array_record_module

    return array_record_module.ArrayRecordWriter(path, 'group_size:1')
  import tensorflow as tf

  return tf.io.TFRecordWriter(path)


def example(source: files.JsonFiles, record: bytes) -> bytes:
  """A line of JSON -> a serialized tf.Example. ValueError if it is bad."""
  import tensorflow as tf

  values = dict.fromkeys(FIELDS, b'')
  values['text'] = source.text(record)
  document = files.parse(record)
  for name in FIELDS[1:]:
    if isinstance(value := document.get(name), str):
      values[name] = value.encode(errors='replace')
  features = {
    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    for name, value in values.items()
  }
  whole = tf.train.Example(features=tf.train.Features(feature=features))
  return whole.SerializeToString(deterministic=True)


def describe(
  place: str,
  name: str,
  dataset: str,
  suffix: str,
  opened: dict[str, files.Source],
  manifest: dict[str, Any],
) -> None:
  """Writes features.json and dataset_info.json, by which TFDS finds a dataset.

  `place` and `dataset` come from folder(), `opened` is split -> source.
  """
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import dataset_info, file_adapters

  name, _, version = name.partition(':')
  text = tfds.features.Text()
  identity = dataset_info.DatasetIdentity(
    name=dataset,
    version=tfds.core.Version(version or '1.0.0'),
    data_dir=place,
    module_name='',
    config_name=name.partition('/')[2] or None,
  )
  info = dataset_info.DatasetInfo(
    builder=identity,
    features=tfds.features.FeaturesDict(dict.fromkeys(FIELDS, text)),
    description='Made by input_pipeline.prepare from files of JSON.',
  )
  info.set_file_format(file_adapters.FileFormat(suffix))
  entries = iter(manifest['files'][n] for n in manifest['names'])
  splits = []
  for split, source in opened.items():
    own = [next(entries) for _ in source.files]
    splits.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[entry['documents'] for entry in own],
        num_bytes=sum(entry['size'] for entry in own),
        filename_template=tfds.core.ShardedFileTemplate(
          data_dir=place, dataset_name=dataset, split=split,
          filetype_suffix=suffix,
        ),
      )
    )  # fmt: skip
  info.set_splits(tfds.core.splits.SplitDict(splits))
  with tempfile.TemporaryDirectory() as written:
    info.write_to_directory(written)
    # features.json first: TFDS takes a folder for a dataset by its info.
    for file in sorted(os.listdir(written), reverse=True):
      data = paths.read(f'{written}/{file}')
      paths.write(f'{place}/{file}', data, shards.OWN)
