"""ELECTRA's pair, which is saved as two folders."""

import os
import shutil

import pytest

from models import pretrained
from models.pretrained import files
from tests.helpers.checkpoints import (
  assert_equal,
  edit,
  make,
  refused,
  rewrite,
)


def test_the_pair_of_electra_is_two_folders(tmp_path):
  config, params = make(
    family='electra', head='rtd', generator_divisor=2, table_dim=8
  )
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  again, loaded = pretrained.load(folder)
  assert again == config
  assert_equal(loaded, params)
  half, _ = pretrained.load(os.path.join(folder, 'generator'))
  assert (half.head, half.embed_dim, half.table_dim) == ('mlm', 6, 8)

  name = 'electra.embeddings.word_embeddings.weight'

  def move(tensors):
    tensors[name] = tensors[name] + 1

  rewrite(os.path.join(folder, 'generator'), move)
  refused(folder, 'differ in embed/table')
  with pytest.raises(ValueError, match="model.head is 'mlm'; .*'rtd'.*/gener"):
    pretrained.load(folder, head='mlm')
  edit(os.path.join(folder, 'generator'), num_hidden_layers=2)
  refused(folder, r'^.*/pair: .* model\.encoder_layers=2.* must have 3')
  shutil.rmtree(f'{folder}/generator')
  shutil.copytree(f'{folder}/discriminator', f'{folder}/generator')
  refused(folder, r"^.*/pair: .* model\.head='rtd' .* not 'rtd' and 'rtd'")


def test_both_halves_of_a_pair_are_checked_before_either_is_read(
  tmp_path, monkeypatch
):
  config, params = make(family='electra', head='rtd', generator_divisor=2)
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  rewrite(
    os.path.join(folder, 'generator'), lambda t: t.pop('generator_lm_head.bias')
  )
  monkeypatch.setattr(files.Tensors, 'read', None)
  refused(folder, r'generator lacks 1 of .*generator_lm_head\.bias')
