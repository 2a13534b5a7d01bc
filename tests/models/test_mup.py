"""muP's first weights and multipliers against table 8 of Yang et al. 2022."""

import jax
import numpy as np
import pytest

from models import mup
from models.layers import initializer
from models.pretrained import saving
from tests.helpers.decoders import tiny_decoder

NARROW, WIDE, V = 64, 256, 40
ROLES = {  # role -> inputs and outputs of a model of width 1
  'table': (0, 1),
  'position': (0, 1),
  'query': (1, 1),
  'attention': (1, 1),
  'attention_output': (1, 1),
  'mlp': (1, 2),
  'mlp_output': (2, 1),
  'transform': (1, 1),
  'output': (1, 0),
}


def model(width, base=NARROW, **changes):
  fields = {
    'embed_dim': width,
    'mlp_dim': 2 * width,
    'heads': width // 8,
    'kv_heads': width // 8,
    'head_dim': 8,
    'base_dim': base,
  }
  return tiny_decoder(**fields | changes)


def deviation(config, role):
  shape = [n * config.embed_dim or V for n in ROLES[role]]
  draw = initializer(config, role)
  return float(np.std(draw(jax.random.key(0), shape, 'float32')))


@pytest.mark.parametrize('role', ROLES)
@pytest.mark.parametrize(
  'init',
  ['t5', 'fan_in', 'glorot', 'normal', 'truncated_normal', 'gpt2', 'megatron'],
)
def test_first_weights(init, role):
  """m times as wide: hidden ones m^-1/2 as large, the others unchanged."""
  own = {'init': init, 'init_std': 0.02}
  if init in ('t5', 'fan_in', 'glorot'):
    own['init_std'] = 0.0
  base, plain, wide = (
    deviation(model(*sizes, **own), role)
    for sizes in ((NARROW, NARROW), (NARROW, 0), (WIDE, NARROW))
  )
  assert base == plain
  hidden = 0 not in ROLES[role]
  expected = base * (NARROW / WIDE) ** 0.5 if hidden else base
  assert wide == pytest.approx(expected, rel=0.08)


def test_attention_is_scaled_by_the_heads_size():
  """8 / H of heads larger than 8, and T5's first queries as if H were 8."""
  fields = {'base_head_dim': 8, 'head_dim': 32, 'heads': 8, 'kv_heads': 8}
  wide = model(WIDE, **fields)
  assert mup.attention_scale(wide) == pytest.approx(8**0.5 / 32)
  assert mup.attention_scale(model(NARROW)) == 8**-0.5
  assert mup.attention_scale(model(WIDE)) == 8**-0.5  # more heads
  t5 = {'init': 't5', 'init_std': 0.0, 'scale_attention': False}
  assert mup.attention_scale(model(NARROW, **t5)) == 1
  assert mup.attention_scale(model(WIDE, **fields, **t5)) == 8 / 32
  found = deviation(model(WIDE, **fields, **t5), 'query')
  assert found == pytest.approx((WIDE * 8) ** -0.5, rel=0.02)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'base_dim': 0, 'base_head_dim': 8},
      'base_head_dim is 8, but model.base_',
    ),
    ({'base_dim': -1}, 'base_dim is -1 .* at least 0'),
    (
      {'table_dim': 8, 'tie_embeddings': False},
      'table_dim is 8, which muP has',
    ),
    ({'adapter_dim': 8}, 'adapter_dim is 8, which muP has no rule for'),
    ({'kv_heads': 1}, r'4 times narrower, so its model.kv_heads would be 0.25'),
    ({'mlp_dim': 514}, 'model.mlp_dim would be 128.5, which must be whole'),
  ],
)
def test_errors(changes, message):
  with pytest.raises(ValueError, match=message):
    model(WIDE, **changes)


def test_no_checkpoint_for_transformers(tmp_path):
  with pytest.raises(ValueError, match="base_dim=64: models of .* muP's mult"):
    saving.check_save(model(WIDE), str(tmp_path / 'out'))
