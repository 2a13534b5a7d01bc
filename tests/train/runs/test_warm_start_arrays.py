"""Which arrays of ELECTRA's pair a fine-tuning run takes."""

import pytest

from configs import electra
from configs.finetune import electra as finetune
from models.config import TransformerConfig
from models.pretrained.arrays import leaf_shapes
from train.runs import warm_start_arrays

VARIANTS = [
  {'head': 'rtd_masked'},
  {'head': 'replace_mlm', 'generator_shares': 'tokens'},
  {'head': 'all_tokens_mlm', 'generator_shares': 'none'},
  {'generator': 'unigram', 'generator_divisor': 0},
  {'generator': 'adversarial'},
  {'generator_divisor': 1, 'generator_shares': 'all'},
  {'generator_divisor': 0, 'generator_dim': 48, 'generator_layers': 1},
]


def shapes(config):
  model = TransformerConfig(**config.model)
  return {f'params/{name}': x for name, x in leaf_shapes(model).items()}


@pytest.mark.parametrize('changes', VARIANTS)
def test_the_discriminator_of_every_variant_is_taken(changes):
  old, new = electra.get_config('tiny'), finetune.get_config('task=x,size=tiny')
  old.model.update(changes)
  new.model.classes = 2
  there, here = shapes(old), shapes(new)
  taken, fresh, left = warm_start_arrays.compare(
    there, here, True, '', old.model, new.model
  )
  assert {name.split('/')[0] for name in taken} == {'embed', 'encoder'}
  assert {name.split('/')[0] for name in fresh} == {'classes'}
  assert not {name.split('/')[0] for name in left} & {'embed', 'encoder'}
