"""Reading blocks: each file once, however far apart its readers are."""

import pytest

from input_pipeline.streams import chunks

BLOCKS, BLOCK = 12, 4


class Counted:
  """A source of numbered documents that counts those it has read."""

  def __init__(self):
    self.files, self.read = ['a', 'b'], 0

  def records(self, file, start):
    for number in range(BLOCKS * BLOCK):  # as a .gz is read
      self.read += 1
      if number >= start:
        yield number, (file, number)


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_streams_of_two_epochs_share_a_file(parts):
  source = Counted()
  reader = chunks.ChunkReader(source, BLOCK, parts, 0, False)
  epochs = [iter(range(BLOCKS)), iter(range(BLOCKS))]
  for _ in range(8):  # an epoch is that far ahead of the next one
    reader.read(0, next(epochs[0]))
  for ahead in epochs[0]:
    reader.read(0, ahead)
    records = reader.read(0, behind := next(epochs[1]))
    assert [n for n, _ in records] == list(
      range(behind * BLOCK, (behind + 1) * BLOCK)
    )
  assert source.read <= BLOCKS * BLOCK + 4 * BLOCK * parts
