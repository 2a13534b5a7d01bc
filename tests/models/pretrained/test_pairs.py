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
  edit(os.path.join(folder, 'generator'), layer_norm_eps=1e-3)
  refused(folder, r'^.*/pair: .* model\.norm_epsilon=0\.001.* must have 1e-')
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


SIZES = {'generator_dim': 18, 'generator_layers': 2}


def test_a_generator_of_any_size(tmp_path):
  config, params = make(family='electra', head='rtd', **SIZES)
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  again, loaded = pretrained.load(folder)
  assert again == config
  assert_equal(loaded, params)


def test_a_pair_with_tables_of_its_own(tmp_path):
  """Each half has the tables that it reads; here they would be shared."""
  shares = {'generator_divisor': 2, 'generator_shares': 'tokens'}
  config, params = make(family='electra', head='rtd', **shares)
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  _, half = pretrained.load(os.path.join(folder, 'generator'))
  tables = params['embed'] | params['generator_embed']
  assert_equal(half['embed'], tables)
  refused(folder, "generator_shares is 'none' or 'tokens'")


@pytest.mark.parametrize(
  'changes',
  [
    {'head': 'replace_mlm', 'generator_divisor': 2},
    {'head': 'rtd', 'generator': 'unigram'},
  ],
)
def test_pairs_that_no_file_holds(tmp_path, changes):
  config, params = make(family='electra', **changes)
  with pytest.raises(ValueError, match=r"the files of ELECTRA's pair hold"):
    pretrained.save(config, params, str(tmp_path / 'pair'))
