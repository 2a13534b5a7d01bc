"""Prefix LM in a decoder: inputs see one another, targets see what precedes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gpt2, t5
from models.build import build
from tests.helpers.decoders import decoded, tiny_decoder
from tests.helpers.t5_reference import random_params
from train.settings import check_settings

T = 12
SEGMENTS = np.array([[1] * 5 + [2] * 6 + [0]])
PLACES = np.array([[*range(5), *range(6), 0]])
PREFIX = np.array([[1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0]])

# Where a later place differs from an earlier one, and where it may be hidden.
VARIANTS = ['relative_bias', 'relative_bias causal', 'transformer_xl']
VARIANTS += ['rope window']


@functools.cache
def prepared(name):
  position, _, more = name.partition(' ')
  changes = {'window': 3, 'window_every': 2} if more == 'window' else {}
  changes |= {'causal_bias': True} if more == 'causal' else {}
  config = tiny_decoder(position, prefix=True, decoder_layers=2, **changes)
  model = build(config)
  return config, model, random_params(model)


def run(model, params, *arguments):
  """Runs a function compiled, which is faster here than op by op."""
  apply = jax.jit(lambda p, *x: model.apply({'params': p}, *x))
  return apply(params, *arguments)


def tokens(rng=0):
  return np.random.default_rng(rng).integers(1, 50, (1, T))


@pytest.mark.parametrize('name', VARIANTS)
def test_what_is_seen_by_gradient(name):
  """A logit depends on the tokens before it and on its segment's inputs alone.

  Later targets and other segments have no influence.
  """
  config, model, params = prepared(name)
  assert 'prefix' in model.INPUTS
  table = params['embed']['table']

  def logits(x):  # a gradient needs vectors in place of tokens
    rows = jnp.concatenate([table, x[0]])
    changed = params | {'embed': params['embed'] | {'table': rows}}
    wide = dataclasses.replace(config, vocab_size=len(rows))
    places = 50 + jnp.arange(T)[None]
    out = build(wide).apply(
      {'params': changed}, places, SEGMENTS, PLACES, PREFIX
    )
    return out[0, :, :50].sum(-1)

  jacobian = jax.jit(jax.jacobian(logits))(jnp.asarray(table[tokens()]))
  influence = np.abs(np.asarray(jacobian)[:, 0]).max(-1)  # [T, T]
  same = SEGMENTS[0][:, None] == SEGMENTS[0][None]
  seen = same & (np.tril(same) | (PREFIX[0] > 0))
  real = SEGMENTS[0] > 0
  assert ((influence > 0) == seen)[real].all()


def test_packed_equals_separate():
  _, model, params = prepared('transformer_xl')
  x = tokens()
  packed = run(model, params, x, SEGMENTS, PLACES, PREFIX)
  for part in slice(0, 5), slice(5, 11):
    alone = run(
      model, params, x[:, part], np.ones_like(x[:, part]), None, PREFIX[:, part]
    )
    np.testing.assert_allclose(packed[:, part], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', VARIANTS)
def test_cached_equals_whole(name):
  """The inputs are read at once, then one target at a time."""
  _, model, params = prepared(name)
  x = tokens()
  prefix = np.arange(T)[None] < 5
  whole = run(model, params, x, np.ones_like(x), None, prefix)
  causal = run(model, params, x, np.ones_like(x))
  assert np.abs(np.asarray(whole - causal)).max() > 1e-2
  np.testing.assert_allclose(
    decoded(model, params, x, 5), whole, rtol=1e-4, atol=1e-4
  )


def test_a_causal_bias_is_that_of_a_model_without_prefix():
  """Wang et al. 2022: one model under two masks (T5X's decoder, l, l, False).

  T5's own prefix LM has buckets of both directions instead.
  """
  config, model, params = prepared('relative_bias causal')
  alone = build(dataclasses.replace(config, prefix=False, causal_bias=False))
  both = build(dataclasses.replace(config, causal_bias=False))
  x = tokens()
  found = [
    np.asarray(run(one, params, x, SEGMENTS)) for one in (model, alone, both)
  ]
  np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
  assert np.abs(found[0] - found[2]).max() > 0.1


def test_keys_after_a_query_are_at_distance_0():
  """The first token sees the whole prefix, and by the table's first row."""
  config = dataclasses.replace(
    prepared('relative_bias causal')[0], decoder_layers=1
  )
  model = build(config)
  params = random_params(model)
  x, whole = tokens(), np.ones((1, T), int)

  def first(table):
    bias = {'relative_bias': {'table': table}}
    changed = params | {'decoder': params['decoder'] | bias}
    return model.apply({'params': changed}, x, whole, None, whole)[0, 0].sum()

  table = params['decoder']['relative_bias']['table']
  # A number that is added to all logits of a query changes no weight.
  grads = np.asarray(jax.jit(jax.grad(first))(table))
  np.testing.assert_allclose(grads, 0, atol=1e-4)
  both = build(dataclasses.replace(config, causal_bias=False))
  ours, theirs = (
    np.asarray(run(one, params, x, whole, None, whole))[0, 0]
    for one in (model, both)
  )
  assert np.abs(ours - theirs).max() > 1e-2


def test_who_has_a_prefix():
  with pytest.raises(ValueError, match="model.family='decoder' with head 'lm'"):
    tiny_decoder(prefix=True, head='tokens', classes=2, tie_embeddings=False)
  config = t5.get_config('tiny')
  with pytest.raises(ValueError, match="not 'encoder_decoder'"):
    type(tiny_decoder())(**config.model.to_dict() | {'prefix': True})
  config = gpt2.get_config('tiny')
  config.model.prefix = True
  with pytest.raises(ValueError, match='inputs see one another.*causal'):
    check_settings(config, 1)
  config.data.objective, config.data.start = 'prefix', 'pad'
  check_settings(config, 1)
  config.data.loss_on_inputs = True
  with pytest.raises(ValueError, match='loss_on_inputs=True predicts each.*is'):
    check_settings(config, 1)
  for position, prefix in ('relative_bias', False), ('alibi', True):
    with pytest.raises(ValueError, match=f"not {prefix} and '{position}'"):
      tiny_decoder(position, prefix=prefix, causal_bias=True)
