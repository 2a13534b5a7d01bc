"""Chunks: dealt evenly, held out, and read once however streams ask."""

import numpy as np
import pytest

from input_pipeline.sources import opening
from input_pipeline.streams import chunks
from tests.helpers.corpora import write

CHUNKS, SIZE = 12, 4


class Counted:
  """A source of numbered documents that counts those it has read."""

  def __init__(self):
    self.files, self.read = ['a', 'b'], 0

  def records(self, file, start):
    for number in range(CHUNKS * SIZE):  # as a .gz is read
      self.read += 1
      if number >= start:
        yield number, (file, number)


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_streams_of_two_epochs_share_a_file(parts):
  source = Counted()
  reader = chunks.ChunkReader(source, SIZE, parts, 0, False)
  epochs = [iter(range(CHUNKS)), iter(range(CHUNKS))]
  for _ in range(8):  # one epoch is so far ahead of the next
    reader.read(0, next(epochs[0]))
  for ahead in epochs[0]:
    reader.read(0, ahead)
    records = reader.read(0, behind := next(epochs[1]))
    assert [n for n, _ in records] == list(
      range(behind * SIZE, (behind + 1) * SIZE)
    )
  assert source.read <= CHUNKS * SIZE + 4 * SIZE * parts


@pytest.mark.parametrize(
  ('files', 'parts'), [(1, 8), (2, 4), (3, 8), (8, 1), (12, 2), (1000, 1)]
)
def test_shards_are_dealt_evenly(files, parts):
  assert chunks.split_files(files, 8) == parts
  order = chunks.shard_order(files, parts, seed=0, epoch=0)
  assert sorted(order) == sorted(chunks.shard_order(files, parts, None, 0))
  assert order != chunks.shard_order(files, parts, 0, 1)
  assert order != chunks.shard_order(files, parts, 1, 0)
  counts = {len(order[s::8]) for s in range(8)}
  assert max(counts) - min(counts) <= (files == 1000)


def test_holdout_indices():
  for holdout in 2, 3, 10:
    for held_out in False, True:
      kept = [i for i in range(200) if chunks.kept(i, holdout, held_out)]
      numbers = range(len(kept))
      first = [chunks.first_index(n, holdout, held_out) for n in numbers]
      assert first == kept


@pytest.mark.parametrize('holdout', [0, 5])
@pytest.mark.parametrize('order', ['together', 'apart', 'random'])
def test_chunk_reader(tmp_path, holdout, order):
  """Streams get their chunks in any order; a file is read about once."""
  count, parts = 1000, 4
  texts = [str(i) for i in range(count)]
  write(tmp_path / 'a.json.gz', texts)
  source = opening.open_source(f'json:{tmp_path}/a.json.gz', 0, 512, 10)
  read_lines, opened = source.records, []

  def records(file, start):
    opened.append(start)
    return read_lines(file, start)

  source.records = records
  reader = chunks.ChunkReader(source, 7, parts, holdout, False)
  kept = [t for i, t in enumerate(texts) if chunks.kept(i, holdout, False)]
  end = -(-len(kept) // 7)
  asked = {
    'together': range(end),
    'apart': [n for p in range(parts) for n in range(p, end, parts)],
    'random': np.random.default_rng(0).permutation(end).tolist(),
  }[order]
  for chunk in asked:
    got = [source.text(r).decode() for _, r in reader.read(0, chunk)]
    assert got == kept[7 * chunk : 7 * chunk + 7]
  assert reader.read(0, end) is None
  assert len(opened) <= {'together': 1, 'apart': parts}.get(order, end)
