"""Every config builds; a mistake in one is reported before anything runs."""

import math
import re

import jax
import pytest
from ml_collections import ConfigDict

from configs import (
  ablations,
  bert,
  common,
  gpt2,
  llama,
  phases,
  t5,
  tree,
  ul2,
)
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from models.build import build
from models.config import TransformerConfig
from train.learning.optimizer import make_optimizer, state_axes
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params
from train.parallel.mesh import make_mesh
from train.settings import check_settings

SIZES = ('tiny', 'small', 'base', 'large', '3b', '11b')


@pytest.mark.parametrize('version', ['1.0', '1.1'])
@pytest.mark.parametrize('size', SIZES)
def test_every_config_builds(size, version):
  for recipe in ('final', 'baseline'):
    arg = f'size={size},version={version},recipe={recipe}'
    config = t5.get_config(arg)
    assert config.is_locked
    check_settings(config, devices=8)
    data = DataConfig(**config.data)
    make_mesh(config.sharding.mesh, config.sharding.rules)
    schedule = make_schedule(config.schedule, config.train.steps)
    if recipe == 'baseline':
      continue  # the model and the optimizer are the same
    model = build(TransformerConfig(**config.model))
    params, axes = abstract_params(model)
    optimizer = make_optimizer(config.optimizer, schedule, axes)
    state = jax.eval_shape(optimizer.init, params)
    state_axes(state, axes)
  assert data.batch == (32 if size == 'tiny' else 128)
  # T5's rate: 1 / sqrt(max(n, 10^4)).
  assert schedule(0) == pytest.approx(0.01)
  assert schedule(40_000) == pytest.approx(0.005)


def test_recipes():
  final, baseline = (
    t5.get_config(f'base,recipe={recipe}') for recipe in ('final', 'baseline')
  )
  assert (final.data.batch, final.train.steps) == (2048, 1_000_000)
  assert (baseline.data.batch, baseline.train.steps) == (128, 2**19)
  assert baseline.data.objective == 'iid_spans'  # section 3.1.4
  for c in final, baseline:
    shapes = batch_shapes(DataConfig(**c.data), c.model.family)
    assert shapes['encoder_inputs'][0] == (512,)
    targets = {'span_corruption': 114, 'iid_spans': 192}[c.data.objective]
    assert shapes['targets'][0] == (targets,)
  baseline.data.update(
    objective='span_corruption',
    mean_span_length=3.0,
    target_length=0,
    batch=2048,
  )
  baseline.train.steps = 1_000_000
  assert final == baseline


@pytest.mark.parametrize(
  ('system', 'billions'),
  [
    ('gpt3:175b', 300),  # 2.1
    ('jurassic', 300),  # as GPT-3
    ('gopher:280b', 300),  # 3.2
    ('chinchilla:70b', 1400),  # table 4
    ('lamda:137b', 432),  # 3: 56.5% of 123 TFLOP/s, 1024 chips, 57.7 days
    ('gpt1', 63),  # ELECTRA's FLOPs script
    ('mt_nlg', 270),  # 3.2
    ('yalm', 300),  # the model card
    ('llama', 1000),  # 1, 7b: table 2
    ('bloom:176b', 366),  # table 3
    ('palm:540b', 776),  # 5: its batches and steps; 780 in 3
    ('rwkv', 332),  # the Pile once
    ('t5:11b', 1049),  # 3.7: 1M steps of 2**11 rows of 512
    ('ul2', 1049),  # the model card: 1T
    ('bert', 42.6),  # A.2: 900,000 steps of 256 rows of 128, 100,000 of 512
    ('roberta', 2097),  # 500,000 steps of 8192
  ],
)
def test_published_tokens(system, billions):
  config = tree.config_of(system)
  tokens = phases.counts(phases.of(config), config.train.steps)['tokens']
  assert tokens == pytest.approx(billions * 1e9, rel=0.001)


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('smal', "size 'smal' is unknown. Did you mean 'small'?"),
    ('size=12b', "Did you mean '11b'?"),
    ('version=v1.1', "version 'v1.1' is unknown. Did you mean '1.1'?"),
    ('base,versoin=1.1', "'versoin' is unknown. Did you mean 'version'?"),
    ('recipe=xyzzy', 'There are: final, baseline, lm_adapted.'),
  ],
)
def test_misspelt_arguments(arg, message):
  with pytest.raises(ValueError) as caught:
    t5.get_config(arg)
  assert message in str(caught.value)


def tiny(**overrides) -> ConfigDict:
  config = t5.get_config('tiny')
  config.update_from_flattened_dict(overrides)
  return config


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    ({'train.steps': 0}, 'train.steps is 0; it must be at least 1'),
    ({'train.log_every': 0}, 'train.log_every is 0'),
    ({'train.z_loss': -1.0}, 'train.z_loss is -1.0'),
    ({'train.label_smoothing': 1.0}, 'train.label_smoothing is 1.0'),
    ({'train.loss_chunk': -2}, 'train.loss_chunk is -2; it must be at least'),
    (
      {'train.accumulate_dtype': 'bfloat16'},
      "accumulate_dtype is 'bfloat16', but train.accumulate is 1",
    ),
    (
      {'train.accumulate_dtype': 'half'},
      "accumulate_dtype is 'half'; it must be float32 or bfloat16",
    ),
    ({'eval.every': 0}, 'eval.every is 0'),
    ({'checkpoint.keep': 0}, 'checkpoint.keep is 0'),
    (
      {'train.accumulate': 3},
      'data.batch is 32; it must be a multiple .* = 8 x 3',
    ),
    (
      {'sharding.mesh.data': 4, 'sharding.mesh.fsdp': 4},
      r'sharding.mesh \(data=4, fsdp=4\) takes 16 devices',
    ),
    ({'seed': 2**32}, r'seed is 4294967296; it must lie in \[0, 2\^32\)'),
    ({'train.z_loss': math.nan}, r'train\.z_loss is nan; it must be finite'),
    ({'optimizer.clip': math.inf}, r'optimizer\.clip is inf; it must be fin'),
  ],
)
def test_impossible_settings(overrides, message):
  with pytest.raises(ValueError, match=message):
    check_settings(tiny(**overrides), devices=8)


ODD = (
  *((0.5, 16, 0), ((0.5, 'a', 0),), ((0.5, 16),), (1, 2), ('a', 'b', 'c', 'd')),
  *((('a',),), ((),), (('text:a', 'x'),), ((None, 1.0),), ((1, 2, 3, 4),)),
  *((('[R]', 0.15, 3.0, None),), (('[R]', 'x', 3.0, 1.0),), ('abcd',)),
  *(((('steps', 5), 16, 0, 0),), (((math.nan, 5), 0, 16, 0, ''),)),
  *(((('steps', 5), 0, True, 0, ''),), ((('weeks', 5), 0, 16, 0, ''),)),
)


@pytest.mark.parametrize('value', ODD, ids=str)
@pytest.mark.parametrize(
  ('paper', 'key'),
  [
    (t5, 'train.phases'),
    (gpt2, 'train.phases'),  # learned positions look at its lengths
    (bert, 'data.mixture'),
    (ul2, 'data.denoisers'),
    (llama, 'model.rope_scaling'),
  ],
)
def test_tuples_of_other_things(paper, key, value):
  """The message names the key, whatever the tuple holds."""
  config = paper.get_config('tiny')
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=re.escape(key)):
    TransformerConfig(**config.model) and check_settings(config, devices=8)


def test_rows_end_before_learned_positions_do():
  """Rows of encoder and decoder fit the positions in every phase."""
  config = ablations.get_config('t5:tiny,position=learned')
  config.data.objective, config.data.noise_density = 'drop_tokens', 0.5
  config.data.mean_span_length, config.data.sentinels = 0.0, 0
  config.data.length, config.data.target_length = 40, 50
  for places, message in (
    (49, r'data\.length has rows of 50 tokens \(inputs\).*positions for 49'),
    (39, r'data\.length has rows of 40 tokens \(encoder_inputs\)'),
  ):
    config.model.max_length = places
    with pytest.raises(ValueError, match=message):
      check_settings(config, devices=8)
  config.model.max_length = 50
  check_settings(config, devices=8)
  config = ablations.get_config('gpt2:tiny')
  length = config.data.length
  config.model.max_length = length
  config.train.phases = ((('steps', 5), 0, length + 4, 0, ''),)
  with pytest.raises(ValueError, match=f'phases has rows of {length + 4}'):
    check_settings(config, devices=8)


def test_heads_and_objectives_that_do_not_meet():
  config = bert.get_config('tiny')
  check_settings(config, 1)
  config.model.head = 'mlm'  # pairs without their labels
  check_settings(config, 1)
  config.model.head, config.data.objective = 'mlm_nsp', 'doc_sentences'
  config.data.short_share = 0.0
  with pytest.raises(ValueError, match="not 'doc_sentences'"):
    check_settings(config, 1)


def test_a_key_that_is_not_set():
  config = common.base()
  with pytest.raises(ValueError, match=r'model\.\w+ is not set.*--config.mod'):
    check_settings(config, devices=8)
