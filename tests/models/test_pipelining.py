"""A pipeline computes what a loop over layers does: turns, what is sent."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.build import build
from models.kernels import sharded
from models.pipelining import Schedule, scheduled
from models.stages import turns
from tests.helpers.decoders import tiny_decoder
from tests.train.parallel.test_sharding import mesh_sizes
from train.learning.state import abstract_params
from train.parallel import sharding
from train.parallel.mesh import make_mesh


def on_stages(function, *inputs, preset='stage', schedule=(0, 1), **sizes):
  """The function of sharded parameters and inputs, and its compiled program."""
  mesh = make_mesh(mesh_sizes(**sizes), preset)
  rules = sharding.make_rules(preset, mesh.shape)
  with (
    jax.set_mesh(mesh),
    nn.logical_axis_rules(rules),
    scheduled(Schedule(*schedule)),
  ):
    compiled = jax.jit(function).lower(*inputs).compile()
    return compiled(*inputs), compiled


def placed(params, names, preset, **sizes):
  mesh = make_mesh(mesh_sizes(**sizes), preset)
  rules = sharding.make_rules(preset, mesh.shape)
  places = sharding.shardings(mesh, rules, names, params)
  return jax.device_put(params, places)


def decoder(**changes):
  """A small decoder, its parameters with their names, and whole rows."""
  model = build(tiny_decoder(**{'decoder_layers': 4} | changes))
  names = abstract_params(model)[1]
  rows = jax.random.randint(
    jax.random.key(0), (8, 16), 1, model.config.vocab_size
  )
  batch = {'inputs': rows, 'segments': jnp.ones_like(rows)}
  params = nn.unbox(model.init(jax.random.key(1), **batch)['params'])
  return model, params, names, batch


def run(model, params, batch, **rngs):
  return model.apply({'params': params}, **batch, **rngs)


def test_odd_batches_and_decoding():
  """Rows that nothing divides, hidden layers' caches: no pipeline is needed."""
  model, params, names, batch = decoder(position='rope')
  sizes = {'data': 2, 'stage': 4}
  own = placed(params, names, 'stage', **sizes)
  for rows in (1, 3, 6):
    part = {name: x[:rows] for name, x in batch.items()}
    found, _ = on_stages(functools.partial(run, model), own, part, **sizes)
    np.testing.assert_allclose(found, run(model, params, part), atol=1e-5)

  def decode(params, tokens):
    cache = model.start_cache(2, 16)
    found, _ = model.apply(
      {'params': params}, tokens, cache, 0, method='decode_step'
    )
    return found

  tokens = batch['inputs'][:2]
  found, _ = on_stages(decode, own, tokens, **sizes)
  np.testing.assert_allclose(found, decode(params, tokens), atol=1e-5)


@pytest.mark.parametrize('kernel', ['xla', 'flash'])
def test_kernels_in_stages(monkeypatch, kernel):
  """With dropout of weights, which counts rows in the whole batch.

  Every second layer has a window: all layers of the second stage.
  """
  monkeypatch.setattr(sharded, 'INTERPRET', True)
  model, params, names, batch = decoder(
    position='rope', attention=kernel, attention_dropout=0.3, dropout=0.3,
    window=5, window_every=2,
  )  # fmt: skip
  sizes = {'data': 2, 'tensor': 2, 'stage': 2}
  own = placed(params, names, 'tensor_stage', **sizes)

  def loss(params, batch):
    rngs = {'dropout': jax.random.key(7)}
    return jnp.sum(run(model, params, batch, rngs=rngs) ** 2)

  both = jax.value_and_grad(loss)
  found, _ = on_stages(
    both, own, batch, preset='tensor_stage', schedule=(4, 2), **sizes
  )
  expected = both(params, batch)
  for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize(
  ('stages', 'microbatches', 'repeats', 'expected'),
  [(4, 8, 1, 11), (4, 6, 1, 9), (2, 4, 2, 9), (2, 2, 2, 5)],
)
def test_turns(stages, microbatches, repeats, expected):
  """M + S - 1, and R M + S - 1, are computed and no more.

  Narayanan et al. 2021, 2.2: the idle share is (S - 1) / (R M + S - 1).
  """
  assert turns(stages, microbatches, repeats) == expected
  model, params, _, batch = decoder()
  mesh = make_mesh(mesh_sizes(data=8 // stages, stage=stages), 'stage')
  # 24 rows of each device: all of these numbers of microbatches divide them.
  batch = {k: jnp.tile(x, (24 // stages, 1)) for k, x in batch.items()}
  with (
    jax.set_mesh(mesh),
    nn.logical_axis_rules(sharding.make_rules('stage')),
    scheduled(Schedule(microbatches, repeats)),
  ):
    text = str(jax.make_jaxpr(functools.partial(run, model))(params, batch))
  assert f' length={expected}\n' in text


def test_what_the_program_sends():
  """Activations go from stage to stage, and weights stay where they are."""
  model, params, names, batch = decoder()
  sizes = {'data': 2, 'stage': 4}
  own = placed(params, names, 'stage', **sizes)

  def loss(params, batch):
    return jnp.sum(run(model, params, batch) ** 2)

  with_places = jax.tree.map(lambda x: x.sharding, own)
  gradients = jax.jit(jax.grad(loss), out_shardings=with_places)
  _, compiled = on_stages(gradients, own, batch, **sizes)
  text = compiled.as_text()
  assert 'collective-permute' in text
  c = model.config
  largest = c.embed_dim * c.mlp_dim  # of a layer's matrices
  for line in text.splitlines():
    if ' all-gather(' in line or ' all-to-all(' in line:
      shape = line.partition(' = ')[2].partition('[')[2].partition(']')[0]
      size = np.prod([int(n) for n in shape.split(',') if n])
      # Rows and their vectors are gathered, never several stages' layers.
      assert not shape.startswith(f'{c.decoder_layers},'), line
      assert size < c.decoder_layers * largest, line


def test_rows_of_the_embeddings_are_the_stages_too():
  """What is outside of the stack is not computed by each stage again."""
  rules = dict(sharding.make_rules('fsdp_stage'))
  assert rules['act_batch'] == ('data', 'fsdp', 'stage')
  assert dict(sharding.make_rules('fsdp'))['act_batch'] == ('data', 'fsdp')
