"""Which weights decay: `optimizer.decay` and `optimizer.decay_except`."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import bert, gpt2, llama, t5
from models.build import build
from models.config import TransformerConfig
from tests.helpers.optimizers import adafactor, adamw, lion, muon
from train.learning.axes import decaying
from train.learning.optimizer import make_optimizer
from train.learning.state import abstract_params


def model_of(system):
  """Shapes and axis names of a tiny model's parameters."""
  return abstract_params(
    build(TransformerConfig(**system.get_config('tiny').model))
  )


def names(optimizer, axes):
  """The names of the parameters that decay."""
  tree = flatten_dict(decaying(optimizer, axes), sep='/')
  return {name for name, decays in tree.items() if decays}


def is_matrix(name):
  ends = 'kernel', 'vocabulary/output', 'embed/table', 'embed/position', 'type'
  return name.endswith(ends)


# What the authors' code spares: BERT's by name (optimization.py), Megatron's
# biases and all of a norm, nanoGPT's what has less than two dimensions.
@pytest.mark.parametrize('system', [bert, gpt2, llama])
def test_the_published_rules(system):
  _, axes = model_of(system)
  own = {*flatten_dict(axes, sep='/')}
  wanted = {name for name in own if is_matrix(name)}
  assert names(adamw(), axes) == wanted
  assert names(adamw(decay='all'), axes) == own
  spared = ('bias', 'scale') if system is not llama else ('scale',)
  named = adamw(decay='all', decay_except=spared)
  assert names(named, axes) == wanted
  assert names(adamw(decay_except=('embed',)), axes) == {
    name for name in wanted if not name.startswith('embed/')
  }


def test_parts_of_names_are_whole():
  _, axes = model_of(t5)
  all_but = names(adamw(decay_except=('mlp/output', 'cross_attention')), axes)
  gone = names(adamw(), axes) - all_but
  assert gone == {
    'encoder/layers/mlp/output/kernel',
    'decoder/layers/mlp/output/kernel',
    *(
      f'decoder/layers/cross_attention/{name}/kernel'
      for name in ('query', 'key', 'value', 'output')
    ),
  }


@pytest.mark.parametrize(
  'optimizer',
  [adamw(), adamw(name='lamb'), adafactor(weight_decay=0.1), lion(), muon()],
  ids=['adamw', 'lamb', 'adafactor', 'lion', 'muon'],
)
def test_what_is_spared_does_not_shrink(optimizer):
  """Without a gradient a weight moves only if it decays."""
  shapes, axes = model_of(gpt2)
  optimizer.decay_except = ('embed/table', 'attention')
  tx = make_optimizer(optimizer, lambda step: 0.5, axes)
  params = jax.tree.map(lambda x: np.ones(x.shape, 'float32'), shapes)
  zeros = jax.tree.map(np.zeros_like, params)
  updates, _ = jax.jit(tx.update)(zeros, tx.init(params), params)
  moved = {
    name for name, x in flatten_dict(updates, sep='/').items() if np.any(x)
  }
  assert moved == {
    'embed/position',
    'decoder/layers/mlp/input/kernel',
    'decoder/layers/mlp/output/kernel',
  }


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'decay_except': ('embedding',)},
      "decay_except: the name 'embedding' is unknown. Did you mean 'embed'?",
    ),
    (
      {'decay_except': ('embed', 'bias')},
      "has 'bias', but with optimizer.decay='matrices' no parameter of that",
    ),
    (
      {'decay_except': ('embed',), 'weight_decay': 0.0},
      r"decay_except is \('embed',\), but optimizer.weight_decay is 0",
    ),
  ],
)
def test_errors(settings, message):
  _, axes = model_of(gpt2)
  with pytest.raises(ValueError, match=message):
    make_optimizer(adamw(**settings), lambda step: 0.5, axes)
