"""Stacks that share weights equal two stacks whose weights are the same."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from configs import t5
from models import attention, decoding, layers
from models.build import build
from models.config import TransformerConfig
from models.kernels.keep import all_kept
from models.stack import written_out
from tests.helpers import t5_reference as reference
from tests.models.families.test_t5 import make_batch
from train.learning.state import abstract_params, count_params

XL = {'relative_buckets': 0, 'relative_max_distance': 0}
VARIANTS = {
  'relative_bias': {},
  'transformer_xl': XL | {'position': 'transformer_xl', 'remat': 'full'},
  'loop': {'scan': False, 'norm_placement': 'post'},
  'adapters': reference.VERSION_1_1 | {'adapter_dim': 4, 'table_dim': 8},
}
LENGTH = 6


def shared_config(**changes):
  return reference.tiny_config(
    shared_stacks=True, encoder_layers=2, decoder_layers=2, **changes
  )


def apart(params):
  """Parameters of shared stacks -> of two stacks, the encoder's a copy."""
  flat = flatten_dict(params)
  for path, x in flatten_dict(params['decoder']).items():
    if not any(part.startswith('cross_attention') for part in path):
      flat['encoder', *path] = x
  return unflatten_dict(flat)


@pytest.mark.parametrize('name', VARIANTS)
def test_logits_are_equal_and_gradients_are_sums(name):
  config = shared_config(**VARIANTS[name])
  model = build(config)
  params = reference.random_params(model)
  batch = make_batch('packed')
  factors = np.random.default_rng(1).normal(size=(*batch['inputs'].shape, 96))
  factors *= (batch['segments'] > 0)[..., None]

  def logits_and_gradients(model, params):
    def loss(params):
      inputs = {name: batch[name] for name in model.INPUTS}
      logits = model.apply({'params': params}, **inputs)
      return jnp.sum(logits * factors), logits

    grads, logits = jax.jit(jax.grad(loss, has_aux=True))(params)
    return logits, flatten_dict(grads)

  two = build(dataclasses.replace(config, shared_stacks=False))
  logits, ours = logits_and_gradients(model, params)
  expected, theirs = logits_and_gradients(two, apart(params))
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
  assert theirs.keys() > ours.keys()
  for path, x in ours.items():
    wanted = theirs[path]
    if path[0] == 'decoder' and ('encoder', *path[1:]) in theirs:
      encoders = theirs['encoder', *path[1:]]
      assert np.abs(encoders).max() > 1e-3 * np.abs(wanted).max(), path
      wanted = wanted + encoders
    atol = 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(x, wanted, atol=atol, err_msg=str(path))


def test_decoding_is_that_of_two_stacks():
  """Through the cache, of a scan and of layers written out for it."""
  config = shared_config()
  model = build(config)
  params = reference.random_params(model)
  two = build(dataclasses.replace(config, shared_stacks=False))
  source = np.random.default_rng(0).integers(3, 96, (2, 7))
  segments = np.array([[1] * 7, [1] * 4 + [0] * 3])
  decode = jax.jit(
    decoding.decode, static_argnames=('model', 'length', 'eos', 'vocabulary')
  )
  models = (model, params), (two, apart(params)), written_out(model, params)
  found = [
    decode(own, source, segments, model=one, length=LENGTH, eos=1)
    for one, own in models
  ]
  for one in found[1:]:
    np.testing.assert_array_equal(one.tokens, found[0].tokens)
    np.testing.assert_allclose(one.log_probs, found[0].log_probs, atol=1e-4)


def test_the_stacks_drop_differently(monkeypatch):
  """No two of the encoder's and decoder's dropouts have a key in common."""
  keys = []

  def spy(self, x):
    if self.rate and self.has_rng('dropout'):
      data = jax.random.key_data(self.make_rng('dropout'))
      jax.debug.callback(lambda key: keys.append((*map(int, key),)), data)
    return x

  def spy_weights(seed, rate, shape, firsts):
    jax.debug.callback(lambda seed: keys.append(int(seed)), seed)
    return all_kept(seed, rate, shape, firsts)

  monkeypatch.setattr(layers.Dropout, '__call__', spy)
  monkeypatch.setattr(attention, 'all_kept', spy_weights)
  counts = []
  for shared in True, False:
    config = shared_config(dropout=0.1, attention_dropout=0.1)
    config = dataclasses.replace(config, shared_stacks=shared)
    model = build(config)
    params = reference.init_params(model)
    batch = {name: np.ones((1, 4), 'int32') for name in model.INPUTS}
    rngs = {'dropout': jax.random.key(1)}
    keys.clear()
    jax.jit(lambda p, b, m=model, r=rngs: m.apply({'params': p}, **b, rngs=r))(
      params, batch
    )
    jax.effects_barrier()
    assert len(set(keys)) == len(keys)
    counts.append(len(keys))
  assert counts[0] == counts[1] > 20


def test_a_new_model_has_weights_of_every_kind():
  """The second pass makes the cross-attention, a kernel for each layer."""
  model = build(shared_config())
  inputs = {name: np.ones((1, 4), 'int32') for name in model.INPUTS}
  boxed = jax.eval_shape(
    lambda: model.init(jax.random.key(0), **inputs)['params']
  )
  for path, x in flatten_dict(boxed).items():
    assert len(x.names) == len(x.value.shape), path
    assert ('layers' in path) == (x.names[0] == 'layers'), path
  stack = nn.unbox(reference.init_params(model))['decoder']['layers']
  query = stack['cross_attention']['query']['kernel']
  assert len(np.unique(query)) == query.size
  own = stack['attention']['query']['kernel']
  assert float(np.std(query)) == pytest.approx(float(np.std(own)), rel=0.1)


def test_parameters_are_those_of_a_decoder_and_its_cross_attention():
  """T5, table 2: P, where two stacks have 2P."""
  config = t5.get_config('base').model.to_dict()
  counts = [
    count_params(abstract_params(build(TransformerConfig(**config | more)))[0])
    for more in (
      {'shared_stacks': True},
      {'family': 'decoder', 'encoder_layers': 0},
      {},
    )
  ]
  cross = 12 * (4 * 768 * 768 + 768)
  assert counts[0] == counts[1] + cross
  table, layer = 32128 * 768, 4 * 768 * 768 + 2 * 768 * 3072 + 2 * 768
  assert counts[1] == table + 12 * layer + 768 + 32 * 12
  assert counts[2] == counts[0] + 12 * layer + 768 + 32 * 12


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'decoder_layers': 3}, 'encoder_layers is 2 and model.decoder_layers 3'),
    ({'family': 'decoder', 'encoder_layers': 0}, "needs model.family='encoder"),
  ],
)
def test_what_cannot_be_shared(changes, message):
  config = shared_config()
  with pytest.raises(ValueError, match=f'model.shared_stacks=True.*{message}'):
    dataclasses.replace(config, **changes)
