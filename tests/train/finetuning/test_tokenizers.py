"""A checkpoint and a task have one tokenizer, by its pieces."""

import os
import shutil

import pytest

from configs import bert as pretraining
from configs.finetune import bert
from input_pipeline.tokenizers import kinds
from models import pretrained
from tests.helpers import labelled, runs
from tests.helpers.checkpoints import make
from train import finetune, loop
from train import pretrained as command

PIECES = 64
SMALL = runs.CONFIG | runs.SMALL | {
  'model.vocab_size': PIECES, 'model.encoder_layers': 1, 'data.length': 16,
  'data.batch': 8, 'data.block': 16, 'data.holdout': 10, 'eval.samples': 0,
}  # fmt: skip


def trained(text):
  """A WordPiece vocabulary of PIECES pieces."""
  return kinds.train([text] * 9, PIECES, 0, 'wordpiece', True, True)


@pytest.fixture(scope='module')
def own():
  return trained(' '.join(labelled.GOOD + labelled.BAD + labelled.OTHER))


@pytest.fixture(scope='module')
def other():
  """As many pieces, of other words in the same letters."""
  words = labelled.GOOD + labelled.BAD + labelled.OTHER
  return trained(' '.join(word[::-1] for word in words))


@pytest.fixture(scope='module')
def run(own, tmp_path_factory):
  """A BERT after one step."""
  folder = tmp_path_factory.mktemp('run')
  kinds.save(own, str(folder / 'tokenizer.json'))
  config = pretraining.get_config('tiny').unlock()
  config.update_from_flattened_dict(SMALL | {
    'data.source': labelled.write_text(folder), 'data.predictions': 4,
    'train.phases': (), 'train.steps': 1, 'schedule.warmup_steps': 1,
    'data.tokenizer': str(folder / 'tokenizer.json'),
    'eval.every': 1, 'checkpoint.every': 1,
  })  # fmt: skip
  loop.train(config.lock(), str(folder / 'run'))
  return folder / 'run'


@pytest.fixture(scope='module')
def published(own, tmp_path_factory):
  """A published BERT with its tokenizer beside it."""
  folder = tmp_path_factory.mktemp('published') / 'bert'
  sizes = {'vocab_size': PIECES, 'max_length': 16, 'head': 'mlm'}
  pretrained.save(*make(**sizes), str(folder))
  kinds.save(own, str(folder / 'tokenizer.json'))
  return folder


def recipe(folder, tokenizer, **keys):
  config = bert.get_config('size=tiny').unlock()
  config.update_from_flattened_dict(SMALL | {
    'data.source': labelled.write_task(folder / 'praise'),
    'train.epochs': 0.01, 'train.steps': 0,
    'data.tokenizer': str(tokenizer), 'eval.every': 1,
  } | keys)  # fmt: skip
  return config.lock()


def put(tokenizer, folder):
  folder.mkdir()
  kinds.save(tokenizer, str(folder / 'tokenizer.json'))
  return folder / 'tokenizer.json'


@pytest.mark.parametrize('scratch', [False, True])
@pytest.mark.parametrize('source', ['run', 'published'])
def test_another_tokenizer_of_the_same_size_is_refused(
  source, scratch, other, tmp_path, request
):
  checkpoint = request.getfixturevalue(source)
  path = put(other, tmp_path / 'other')
  new = tmp_path / 'new'
  with pytest.raises(ValueError) as error:
    finetune.finetune(
      recipe(tmp_path, path), str(new), str(checkpoint), scratch
    )
  message = str(error.value)
  assert f'data.tokenizer={str(path)!r} is not the tokenizer of' in message
  assert str(checkpoint) in message
  assert 'Leave data.tokenizer out' in message
  assert not (new / 'checkpoints').exists()


@pytest.mark.parametrize('source', ['run', 'published'])
def test_the_same_tokenizer_under_another_path_is_taken(
  source, own, tmp_path, request, capsys
):
  checkpoint = request.getfixturevalue(source)
  path = put(own, tmp_path / 'own')
  finetune.finetune(
    recipe(tmp_path, path), str(tmp_path / 'new'), str(checkpoint)
  )
  assert 'is the tokenizer of the parameters' in capsys.readouterr().out
  assert runs.checkpoints(tmp_path / 'new')


def test_the_same_pieces_in_another_file_are_taken(run, own, tmp_path, capsys):
  pieces = [own.piece(i) for i in range(own.size)]
  (tmp_path / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  changed = recipe(tmp_path, tmp_path / 'vocab.txt')
  finetune.finetune(changed, str(tmp_path / 'new'), str(run))
  out = capsys.readouterr().out
  assert 'is the tokenizer of' in out or 'has the pieces of' in out


def test_a_tokenizer_whose_file_is_gone_is_known_by_its_hash(
  run, own, other, tmp_path
):
  copy = tmp_path / 'copy'
  shutil.copytree(run, copy)
  os.remove(copy / 'tokenizer.json')
  path = put(other, tmp_path / 'other')
  with pytest.raises(ValueError, match='their hashes differ'):
    finetune.finetune(recipe(tmp_path, path), str(tmp_path / 'a'), str(copy))
  path = put(own, tmp_path / 'own')
  finetune.finetune(recipe(tmp_path, path), str(tmp_path / 'b'), str(copy))
  assert runs.checkpoints(tmp_path / 'b')


def test_text_may_have_another_tokenizer(published, other, tmp_path, capsys):
  """Pretraining goes on with other ids, and says so."""
  path = put(other, tmp_path / 'other')
  config = pretraining.get_config('tiny').unlock()
  config.update_from_flattened_dict(SMALL | {
    'data.source': labelled.write_text(tmp_path), 'data.predictions': 4,
    'train.phases': (), 'data.tokenizer': str(path),
  })  # fmt: skip
  command.adopt(str(published), config.lock())
  assert 'ids have other meanings' in capsys.readouterr().out
