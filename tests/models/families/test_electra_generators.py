"""ELECTRA's generators: their sizes, and what they share."""

import functools

import jax
import numpy as np
import pytest

from configs import electra
from models.build import build
from models.config import TransformerConfig
from models.families.electra import discriminator_params, generator_config
from tests.models.families.test_electra import (
  BATCH,
  apply,
  make_config,
  random_params,
)
from train.learning.state import abstract_params

EQUAL = {'generator_divisor': 1, 'encoder_layers': 1, 'scan': False}
TABLES = {'position', 'type', 'norm'}
OWN = {'replaced', 'encoder', 'embed'}
OUTPUTS = 'logits', 'sampled', 'replaced'


@functools.cache
def shared_tables():
  """The parameters and outputs of a pair that shares its tables."""
  config = make_config(**EQUAL)
  params = random_params(config)
  run = jax.jit(functools.partial(apply, config))
  return params, run(params, BATCH, sample=jax.random.key(0))


@pytest.mark.parametrize('shares', ['none', 'tokens', 'all'])
def test_what_a_generator_shares(shares):
  """With equal weights where it has its own, nothing differs."""
  params, expected = shared_tables()
  config = make_config(**EQUAL, generator_shares=shares)
  shapes, _ = abstract_params(build(config))
  if shares == 'all':
    assert shapes.keys() == OWN | {'vocabulary'}
    expected = apply(
      make_config(**EQUAL),
      params | {'generator': params['encoder']},
      BATCH,
      sample=jax.random.key(0),
    )
    own = {name: params[name] for name in shapes}
  else:
    assert shapes.keys() == OWN | {'vocabulary', 'generator', 'generator_embed'}
    tables = TABLES | ({'table'} if shares == 'none' else set())
    assert shapes['generator_embed'].keys() == tables
    copies = {name: params['embed'][name] for name in tables}
    own = params | {'generator_embed': copies}
  assert jax.tree.map(np.shape, own) == jax.tree.map(np.shape, shapes)
  run = jax.jit(functools.partial(apply, config))
  ours = run(own, BATCH, sample=jax.random.key(0))
  for name in OUTPUTS:
    np.testing.assert_allclose(ours[name], expected[name], atol=1e-4)
  if shares == 'none':  # its own table gives its logits, and nothing else
    copies = copies | {'table': copies['table'] + 0.1}
    other = run(own | {'generator_embed': copies}, BATCH)
    assert np.abs(other['logits'] - ours['logits']).max() > 0.01


def test_the_parameters_of_a_discriminator_that_predicts():
  """It is an encoder with the head of masked tokens, without a copy gate."""
  config = make_config(head='all_tokens_mlm')
  own = discriminator_params(random_params(config))
  assert own.keys() == {'embed', 'encoder', 'vocabulary'}


# Width -> MLP, heads; of a discriminator 768 wide with 12 heads.
SIZES = {32: (128, 1), 64: (256, 1), 512: (2048, 8), 1024: (4096, 16)}


@pytest.mark.parametrize('width', SIZES)
def test_a_generator_of_any_width(width):
  model = electra.get_config('base').model.to_dict()
  model |= {'generator_divisor': 0, 'generator_dim': width}
  c = generator_config(TransformerConfig(**model))
  assert (c.embed_dim, c.mlp_dim, c.heads) == (width, *SIZES[width])
  assert (c.kv_heads, c.head_dim, c.encoder_layers) == (c.heads, 64, 12)
  assert c.table_width == 768  # the discriminator's tables, projected
  model |= {'generator_heads': 2, 'generator_layers': 3}
  c = generator_config(TransformerConfig(**model))
  assert (c.heads, c.kv_heads, c.encoder_layers) == (2, 2, 3)


def test_a_divisor_and_a_width_say_the_same():
  narrow = make_config(generator_divisor=0, generator_dim=8)
  assert generator_config(narrow) == generator_config(make_config())


def test_a_shallow_generator():
  sizes = {'generator_dim': 16, 'generator_heads': 2, 'generator_layers': 1}
  config = make_config(generator_divisor=0, **sizes)
  params = random_params(config)
  kernel = params['generator']['layers']['attention']['query']['kernel']
  assert kernel.shape == (1, 16, 12)  # two heads of 6
  outputs = jax.jit(functools.partial(apply, config))(params, BATCH)
  own = params | {'encoder': params['generator']}
  own = {name: own[name] for name in ('embed', 'encoder', 'vocabulary')}
  alone = apply(generator_config(config), own, BATCH)
  np.testing.assert_allclose(alone['logits'], outputs['logits'], atol=1e-4)
