"""Prepared TFDS datasets: shards of tf.Example records."""

import os
from collections.abc import Iterator

from input_pipeline.sources import files, hashes, manifest, paths


class TfdsDataset(files.Source):
  """A text feature of the dataset NAME[@SPLIT]; has `lengths`.

  The dataset is looked up where TFDS does: in TFDS_DATA_DIR of the environment,
  or its default folder. Files may be TFRecord or ArrayRecord. Nothing is
  downloaded or prepared. Raises ValueError naming `key` if the dataset, the
  split or the feature is missing.
  """

  unit = 'record'

  def __init__(self, name: str, key: str = 'data.source', field: str = 'text'):
    import tensorflow_datasets as tfds

    self.field = field
    self.name, _, split = name.partition('@')
    split = split or 'train'
    where = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    try:
      info = tfds.core.read_only_builder.builder_from_files(self.name).info
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
      if left := _unfinished(where, self.name):
        raise ValueError(f"{key}='tfds:{name}': {left}") from error
      raise ValueError(
        f"{key}='tfds:{name}' is not prepared in TFDS_DATA_DIR={where}:"
        f' {str(error).splitlines()[0]} Make it from the published files'
        ' (python -m input_pipeline.prepare --tfds, see'
        ' input_pipeline/README.md), or read those: data.source='
        "'json:/data/c4/*.json.gz'."
      ) from error
    self.splits = sorted(info.splits)
    if split not in self.splits:
      raise ValueError(
        f"{key}='tfds:{name}' has no split {split!r} in TFDS_DATA_DIR={where},"
        f' but: {", ".join(self.splits) or "none"}.'
      )
    if field not in info.features:
      raise ValueError(
        f"{key}='tfds:{name}' has no feature {field!r}, only"
        f' {", ".join(info.features)}. data.text_field names another.'
      )
    self.files = [str(path) for path in info.splits[split].filepaths]
    self.lengths = list(info.splits[split].shard_lengths)
    if 'validation' in self.splits:
      self.validation = f'tfds:{self.name}@validation'
    self.array_record = info.file_format.value == 'array_record'
    self.full_name, self.split = info.full_name, split

  @property
  def fingerprint(self) -> dict:
    return {
      'name': self.full_name,
      'split': self.split,
      'shards': self.lengths,
      'files': hashes.fingerprints(self.files),
    }

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    from tensorflow import errors

    path, length = self.files[file], self.lengths[file]
    read = _array_record if self.array_record else _tfrecord
    number, found = start, 'it ends there'
    try:
      for number, record in enumerate(read(path, start, length), start + 1):
        yield number, record
    except (RuntimeError, ValueError, errors.OpError) as error:
      found, number = str(error).splitlines()[0], min(number, length - 1)
    if number < length:
      raise ValueError(
        f'{path}, after record {number} of {length}: the file is damaged or cut'
        f' short ({found}). Prepare the dataset again, or bring the file back.'
      )

  def text(self, record: bytes) -> bytes:
    import tensorflow as tf

    feature = tf.train.Example.FromString(record).features.feature[self.field]
    if not feature.bytes_list.value or not feature.bytes_list.value[0]:
      raise ValueError('no text')
    return feature.bytes_list.value[0]


def _unfinished(folder, name):
  """What is missing of a dataset that shards of prepare have begun; or ''."""
  name, _, version = name.partition(':')
  place = os.path.join(os.path.expanduser(folder), name, version or '*')
  found = paths.match(os.path.join(place, manifest.PLAN))
  return manifest.unfinished(os.path.dirname(found[-1])) if found else ''


def _tfrecord(path, start, _):
  import tensorflow as tf

  records = tf.data.TFRecordDataset(path, buffer_size=1 << 20).skip(start)
  for batch in records.batch(128).as_numpy_iterator():
    yield from batch


def _array_record(path, start, length):
  from array_record.python import array_record_module

  with paths.local(path) as copy:  # it cannot read remote files
    reader = array_record_module.ArrayRecordReader(copy)
  while start < length:
    stop = min(start + 128, length)
    yield from reader.read(range(start, stop))
    start = stop
