"""A run that several tests open."""

import pytest

from tests.helpers import runs


@pytest.fixture(scope='session')
def evaluated(tmp_path_factory):
  """The workdir of a run on one device, evaluated at steps 0, 4 and 8.

  It is evaluated on a further text too, called other.
  """
  source = runs.write_text(tmp_path_factory.mktemp('data') / 'text')
  other = tmp_path_factory.mktemp('other') / 'other.txt'
  other.write_text('Once upon a time there was a cat. ' * 40)
  folder = tmp_path_factory.mktemp('run') / 'run'
  runs.train(
    folder,
    data__source=source,
    train__steps=8,
    eval__every=4,
    eval__batches=2,
    eval__sources=(('other', f'textfile:{other}'),),
    checkpoint__every=4,
    sharding__mesh__data=1,
  )
  return folder
