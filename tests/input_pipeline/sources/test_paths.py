"""Files written whole, with the umask's permissions; patterns of files."""

import os

import pytest

from input_pipeline.sources import hashes, paths
from input_pipeline.tokenizers import kinds, subwords


@pytest.fixture
def umask():
  """Others may read, the group may write."""
  before = os.umask(0o002)
  yield
  os.umask(before)


def mode(path):
  return oct(os.stat(path).st_mode & 0o777)


def test_permissions_follow_the_umask(umask, tmp_path):
  paths.write(tmp_path / 'a', b'x')
  tokenizer = subwords.Bytes(10, False)
  kinds.save(tokenizer, str(tmp_path / 'tokenizer.json'))
  assert {mode(path) for path in tmp_path.iterdir()} == {'0o664'}
  os.umask(0o027)
  paths.write(tmp_path / 'a', b'y')
  assert mode(tmp_path / 'a') == '0o640'


def test_a_failure_leaves_what_was_there(tmp_path):
  path = tmp_path / 'a'
  paths.write(path, b'old')

  def half():
    with paths.replacing(path) as file:
      file.write(b'ne')
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    half()
  assert os.listdir(tmp_path) == ['a']
  assert path.read_bytes() == b'old'


@pytest.mark.skipif(
  not os.path.exists('/dev/full'),
  reason='needs /dev/full, which only Linux has',
)
def test_a_full_disk_names_the_file():
  def fill():
    with paths.opened('/dev/full', 'wb') as file:
      file.write(b'x')
      file.flush()

  with pytest.raises(OSError, match='No space left.*/dev/full'):
    fill()


def test_sha256(tmp_path):
  (tmp_path / 'a').write_bytes(b'abc')
  # FIPS 180-2, appendix B.1.
  expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  assert hashes.file_sha256(tmp_path / 'a') == expected
  assert hashes.sha256(b'abc') == expected


@pytest.mark.parametrize('name', ['run[1]', '[!a]b', 'what?', 'a*'])
def test_folders_are_taken_literally(tmp_path, name):
  """The pattern begins where nothing of that very name exists."""
  for folder in (name, 'run1', 'xb', 'whatt', 'ab'):
    (tmp_path / folder).mkdir()
    for file in ('1.txt', '2.txt', '[1].txt'):
      (tmp_path / folder / file).write_text(folder)
  here = str(tmp_path / name)
  found = paths.match(f'{here}/*.txt')
  assert found == sorted(f'{here}/{x}' for x in ('1.txt', '2.txt', '[1].txt'))
  assert paths.match(f'{here}/[12].txt') == [f'{here}/1.txt', f'{here}/2.txt']
  assert paths.match(f'{here}/[1].txt') == [f'{here}/[1].txt']
  assert paths.match(f'{here}/none/*') == []
  assert len(paths.match(f'{tmp_path}/*b/*.txt')) >= 3  # a pattern as before
