"""Runs that cannot begin with a checkpoint leave nothing behind."""

import os
import shutil

import pytest

from configs.finetune import bert
from input_pipeline.tokenizers import kinds, subwords
from models import pretrained
from tests.helpers import labelled, runs
from tests.helpers.checkpoints import T5, make, recipe, rewrite
from train import pretrained as command
from train.finetuning import adoption
from train.runs import folders


def test_a_run_that_cannot_begin_reads_and_leaves_nothing(
  published, unread, tmp_path
):
  folder = tmp_path / 'new' / 'run'
  data = recipe(source=f'text:{tmp_path}/*.none', tokenizer_kind='bytes')
  with pytest.raises(ValueError, match=r'\.none'):
    command.begin(published, data, str(folder))
  data.data.tokenizer = str(tmp_path / 'tokenizer.json')
  with pytest.raises(ValueError, match=r"tokenizer\.json' cannot be read"):
    command.begin(published, data, str(folder))
  assert os.listdir(tmp_path) == []


def test_weights_are_checked_before_a_folder_is_made(unread, tmp_path):
  config, params = make(**T5)
  source = str(tmp_path / 'published')
  pretrained.save(config, params, source)
  rewrite(source, lambda t: t.pop('encoder.final_layer_norm.weight'))
  with pytest.raises(ValueError, match='lacks 1 of .*final_layer_norm'):
    command.begin(source, recipe(source='synthetic'), str(tmp_path / 'run'))
  assert os.listdir(tmp_path) == ['published']


def test_a_failure_while_a_run_begins_removes_what_it_made(
  published, tmp_path, monkeypatch
):
  source = runs.write_text(tmp_path / 'text')
  config = recipe(source=source, tokenizer_kind='bytes', holdout=10, block=16)
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / 'notes.txt').write_text('mine')
  found = []

  def fails(*_, **__):
    found.extend(sorted(os.listdir(folder)))
    shutil.copytree(folder, tmp_path / 'killed')
    raise OSError(5, 'Input/output error')

  monkeypatch.setattr(pretrained, 'load', fails)
  with pytest.raises(OSError, match='Input/output'):
    command.begin(published, config, str(folder))
  assert found == ['.lock', folders.NOTE, 'notes.txt', 'tokenizer.json']
  assert os.listdir(folder) == ['notes.txt']
  # A kill leaves all of it; the same command removes it and begins again.
  monkeypatch.undo()
  folder = tmp_path / 'killed'
  (folder / 'checkpoints' / '0.orbax-checkpoint-tmp').mkdir(parents=True)
  (folder / 'tokenizer.json').write_text('half')
  command.begin(published, config, str(folder))
  assert runs.checkpoints(folder) == [0]
  assert (folder / 'notes.txt').read_text() == 'mine'
  names = {'checkpoints', 'config.json', 'notes.txt', 'tokenizer.json'}
  assert {n for n in os.listdir(folder) if n[0] != '.'} == names
  assert not (folder / folders.NOTE).exists()
  with pytest.raises(ValueError, match='holds a run'):
    command.begin(published, config, str(folder))


def test_a_run_that_another_process_begins_is_refused(published, tmp_path):
  config = recipe(source='synthetic')
  with folders.made(str(tmp_path / 'run')):
    before = sorted(os.listdir(tmp_path / 'run'))
    with pytest.raises(ValueError, match='another process'):
      command.begin(published, config, str(tmp_path / 'run'))
    assert sorted(os.listdir(tmp_path / 'run')) == before


def test_what_a_killed_start_left_is_removed(published, unread, tmp_path):
  source = runs.write_text(tmp_path / 'text')
  config = recipe(source=source, tokenizer_kind='bytes', holdout=10, block=16)
  folder = tmp_path / 'run'
  (folder / 'checkpoints' / '0').mkdir(parents=True)
  with pytest.raises(ValueError, match='run holds a run, or parts of'):
    command.begin(published, config, str(folder))
  assert os.listdir(folder) == ['checkpoints']


def test_a_tokenizer_that_a_killed_start_left_is_removed(published, tmp_path):
  source = runs.write_text(tmp_path / 'text')
  config = recipe(source=source, tokenizer_kind='bytes', holdout=10, block=16)
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / 'tokenizer.json').write_text('half')
  command.begin(published, config, str(folder))
  assert (folder / 'tokenizer.json.unused').read_text() == 'half'


@pytest.mark.parametrize(
  ('head', 'new'),
  [
    ('mlm', ['classes', 'pooler']),  # the file has no pooler
    ('mlm_nsp', ['classes']),
    ('sequence', []),
  ],
)
def test_what_is_not_in_the_checkpoint_is_named(head, new, tmp_path, capsys):
  source = str(tmp_path / 'bert')
  sizes = {'vocab_size': 300, 'max_length': 16, 'head': head}
  sizes |= {'classes': 2, 'pooler': True} if head == 'sequence' else {}
  pretrained.save(*make(**sizes), source)
  kinds.save(subwords.Bytes(0, True), os.path.join(source, 'tokenizer.json'))
  config = bert.get_config('size=tiny')
  config.data.update({
    'source': labelled.write_task(tmp_path / 'praise'), 'length': 16,
    'tokenizer_kind': 'bytes', 'lowercase': False, 'batch': 8,
  })  # fmt: skip
  config = adoption.resolve(config)
  capsys.readouterr()
  command.begin(source, config, str(tmp_path / 'run'))
  names = [f'{x}/dense/{y}' for x in new for y in ('bias', 'kernel')]
  lines = capsys.readouterr().out.splitlines()
  found = [x for x in lines if 'from the seed' in x]
  assert found == [f'  new, from the seed: {", ".join(names)}'] * bool(names)
  assert f'Parameters from {source}.' in lines
