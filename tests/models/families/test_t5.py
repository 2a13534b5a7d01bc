"""T5 equals transformers' torch class; its sizes are the published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from configs import t5
from models.build import build
from models.config import TransformerConfig
from models.positions import relative_bucket
from tests.helpers import t5_reference as reference
from train.learning.state import abstract_params, count_params

# The sizes of the released checkpoints, every tensor counted once.
PUBLISHED = {
  ('small', '1.0'): 60_506_624,
  ('base', '1.0'): 222_903_552,
  ('large', '1.0'): 737_668_096,
  ('3b', '1.0'): 2_851_598_336,
  ('11b', '1.0'): 11_307_321_344,
  ('small', '1.1'): 76_961_152,
  ('base', '1.1'): 247_577_856,
  ('large', '1.1'): 783_150_080,
  ('3b', '1.1'): 2_849_757_184,
  ('11b', '1.1'): 11_135_332_352,
}


@pytest.mark.parametrize(('size', 'version'), PUBLISHED)
def test_parameter_count_is_the_published_one(size, version):
  config = t5.get_config(f'size={size},version={version}')
  shapes, _ = abstract_params(build(TransformerConfig(**config.model)))
  assert count_params(shapes) == PUBLISHED[size, version]


def make_batch(kind: str, S: int = 29, T: int = 17) -> dict[str, np.ndarray]:
  """Three rows: full, padded at the end, or of several packed examples."""
  rng = np.random.default_rng(3)
  B = 3
  batch = {
    'encoder_inputs': rng.integers(1, 96, (B, S)),
    'inputs': rng.integers(1, 96, (B, T)),
    'targets': rng.integers(1, 96, (B, T)),
    'encoder_segments': np.ones((B, S)),
    'segments': np.ones((B, T)),
  }
  if kind == 'padded':
    for row, (s, t) in enumerate([(S, T), (11, 5), (1, 2)]):
      batch['encoder_segments'][row, s:] = 0
      batch['segments'][row, t:] = 0
  if kind == 'packed':
    batch['encoder_segments'][0] = np.repeat([1, 2, 3], [10, 4, 15])
    batch['segments'][0] = np.repeat([1, 2, 3], [3, 10, 4])
    batch['encoder_segments'][1] = np.repeat([1, 2, 0], [12, 12, 5])
    batch['segments'][1] = np.repeat([1, 2, 0], [8, 8, 1])
  return {name: x.astype('int32') for name, x in batch.items()}


@pytest.mark.parametrize('kind', ['full', 'padded', 'packed', 'long'])
@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_logits_and_gradients_equal_torch(version, kind):
  config = reference.tiny_config(version)
  model = build(config)
  params = reference.random_params(model)
  # Long: far beyond the distance at which the buckets end.
  batch = make_batch(kind, *((333, 301) if kind == 'long' else ()))
  real = batch['segments'] > 0

  def loss_and_logits(params):
    logits = model.apply(
      {'params': params}, **{name: batch[name] for name in model.INPUTS}
    )
    ce = -jnp.take_along_axis(
      jax.nn.log_softmax(logits), batch['targets'][..., None], -1
    )
    return jnp.sum(ce[..., 0] * real) / real.sum(), logits

  with jax.default_matmul_precision('highest'):
    grads, logits = jax.jit(jax.grad(loss_and_logits, has_aux=True))(params)

  theirs = reference.torch_model(config)
  reference.load(theirs, reference.to_torch(params, config))
  expected = reference.torch_logits(theirs, batch)
  ce = torch.nn.functional.cross_entropy(
    expected[torch.from_numpy(real)],
    torch.from_numpy(batch['targets'][real]).long(),
  )
  ce.backward()

  expected = expected.detach().numpy()
  scale = np.abs(expected[real]).max()
  assert scale > 0.5
  worst = np.abs(np.asarray(logits) - expected)[real].max() / scale
  assert worst <= 1e-5
  ours = reference.to_torch(grads, config)
  errors = []
  for name, weight in theirs.named_parameters():
    gradient = weight.grad.numpy()
    size = np.linalg.norm(gradient)
    assert size > 0, name
    errors.append(np.linalg.norm(ours[name] - gradient) / size)
    assert errors[-1] <= 1e-5, (name, errors[-1])
  print(
    f'\nLARGEST T5 {version} {kind}: logits {worst:.1e}, gradients '
    f'{max(errors):.1e}'
  )


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize(('buckets', 'far'), [(32, 128), (16, 40), (64, 1000)])
def test_relative_buckets_equal_torch_to_distance_1000(
  bidirectional, buckets, far
):
  distance = np.arange(-1000, 1001)
  expected = T5Attention._relative_position_bucket(
    torch.from_numpy(distance), bidirectional, buckets, far
  )
  ours = relative_bucket(jnp.asarray(distance), buckets, far, bidirectional)
  np.testing.assert_array_equal(ours, expected)


def test_initialisation_has_the_published_spread():
  config = t5.get_config('tiny').unlock()
  config.model.update(embed_dim=256, mlp_dim=1024, heads=8)
  config.model.update(kv_heads=8, head_dim=64, vocab_size=2048)
  for version in ('1.0', '1.1'):
    if version == '1.1':
      config.model.update(reference.VERSION_1_1)
    model = build(TransformerConfig(**config.model))
    params = reference.init_params(model)
    D, F, N, H = 256, 1024, 8, 64
    layer = params['decoder']['layers']
    expected = {
      'query': (D * H) ** -0.5,
      'key': D**-0.5,
      'value': D**-0.5,
      'output': (N * H) ** -0.5,
    }
    for attention in ('attention', 'cross_attention'):
      for name, std in expected.items():
        kernel = layer[attention][name]['kernel']
        assert np.std(kernel) == pytest.approx(std, rel=0.02), name
    mlp = layer['mlp']
    for name in mlp:
      std = F**-0.5 if name == 'output' else D**-0.5
      assert np.std(mlp[name]['kernel']) == pytest.approx(std, rel=0.02)
    assert np.std(params['embed']['table']) == pytest.approx(1, rel=0.02)
    if version == '1.1':
      std = np.std(params['vocabulary']['output'])
      assert std == pytest.approx(D**-0.5, rel=0.02)
    # Each layer of a stack has its own initial weights.
    kernel = layer['mlp']['input']['kernel']
    assert np.abs(kernel[0] - kernel[1]).max() > 0.01
