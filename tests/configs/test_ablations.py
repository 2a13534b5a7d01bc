"""Every system with one choice changed: it builds, learns and decodes.

Or it is refused, with the reason. Widths are those of toys; which choices meet
is what counts. Two systems that become the same toy are tested once.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ablations, tree
from input_pipeline.choices import OBJECTIVES
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import FAMILIES, batch_shapes
from models.build import build
from models.config import TransformerConfig
from tests.configs import recipe_pairs
from tests.helpers import runs
from train.learning.criteria import objective_for
from train.loop import train
from train.settings import check_settings

B, T, V = 2, 8, 32
SIZES = {
  'vocab_size': V,
  'embed_dim': 16,
  'mlp_dim': 24,
  'head_dim': 6,
  'dtype': 'float32',
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'remat': 'none',
  'scan': False,
  # Neither meets any of the choices that are changed.
  'norm_epsilon': 1e-5,
  'init_std': 0.1,
}


def tiny(system: str) -> str:
  """A row of tree.SYSTEMS at its smallest; '' where nothing is published."""
  name, _, arg = system.partition(':')
  versions = [part for part in arg.split(',') if '=' in part]
  published = tree.module_of(name).SIZES
  return f'{name}:' + ','.join(['tiny', *versions]) if published else ''


TINY = tuple(filter(None, map(tiny, tree.SYSTEMS)))


def toy(fields: dict) -> dict:
  """The fields of a tiny config at the sizes of a toy."""
  rwkv = fields['family'] == 'rwkv'
  fields = fields | SIZES | {'init': 'rwkv' if rwkv else 'normal'}
  if fields['heads']:
    wide = fields['kv_heads'] == fields['heads']
    shared = 1 if fields['kv_heads'] == 1 else 2
    fields |= {'heads': 4, 'kv_heads': 4 if wide else shared}
  if rwkv:
    fields |= {'head_dim': 0, 'init_std': 0.0}
  layers = 2 if fields['window'] or rwkv else 1  # as many kinds
  for key, value in {
    'encoder_layers': layers,
    'decoder_layers': layers,
    'max_length': 12,
    'rope_dim': 4,
    'window': 3,
    'table_dim': 8,
    'relative_buckets': 8,
    'relative_max_distance': 12,
    'generator_divisor': 2,
  }.items():
    if fields[key]:
      fields[key] = value
  return fields


@functools.cache
def cases():
  """Of each system the changes that make a toy not seen before."""
  seen, found = set(), []
  for system in TINY:
    own = dict(tree.config_of(system).model)
    for overrides in ({}, *ablations.sweep(system)):
      names = {key: key.removeprefix('model.') for key in overrides}
      model = {n: overrides[key] for key, n in names.items() if n in own}
      fields = toy(own | model)
      changed = tuple(sorted(fields.items()))
      if changed not in seen:
        seen.add(changed)
        field, value = next(iter(model.items()), ('as', 'published'))
        name = f'{system}-{field}-{value}'
        found.append(pytest.param(fields, id=name.replace(':tiny', '')))
  return found


def refusal(fields: dict) -> str:
  """What of the message must be there where a model cannot be; '' if it can."""
  if fields['family'] == 'rwkv':
    if fields['position'] != 'none':
      return 'no attention'
    if fields['norm_placement'] == 'post' or fields['gated']:
      return 'a block of its own'
    return '' if fields['bias'] == 'none' else 'a block of its own'
  if fields['parallel'] != 'none' and fields['norm_placement'] == 'post':
    return "needs model.norm_placement='pre'"
  if (
    fields['table_dim']
    and fields['tie_embeddings']
    and not fields['output_transform']
    and fields['head'] != 'rtd'
  ):
    return 'needs model.output_transform'
  return ''


def batch_for(config: TransformerConfig) -> dict:
  rng = np.random.default_rng(0)

  def tokens(*shape):
    return rng.integers(5, V, shape).astype('int32')

  ones, places = np.ones((B, T), 'int32'), np.tile(np.arange(T), (B, 1))
  batch = {'inputs': tokens(B, T), 'segments': ones, 'positions': places}
  if config.family == 'encoder_decoder':
    batch |= {
      'encoder_inputs': tokens(B, T + 2),
      'encoder_segments': np.ones((B, T + 2), 'int32'),
      'encoder_positions': np.tile(np.arange(T + 2), (B, 1)),
    }
  if config.family in ('encoder', 'electra'):
    batch['predict_at'] = np.array([[1, 4], [2, 3]])
    batch['types'] = (places > 4).astype('int32')
    batch['is_next'] = np.array([0, 1])
    batch['targets'] = tokens(B, 2)
  else:
    batch['targets'] = np.roll(batch['inputs'], -1, 1)
  batch['weights'] = np.ones(batch['targets'].shape, 'float32')
  return batch


def decoded(model, params, batch):
  """The whole row's logits through a cache."""
  variables = {'params': params}
  tokens, cache = jnp.asarray(batch['inputs']), model.start_cache(B, T)

  def step(args):
    return model.apply(variables, *args, method='decode_step')

  seen, encoded = [], []  # of an encoder-decoder
  if model.config.family == 'encoder_decoder':
    source = [batch['encoder_inputs'], batch['encoder_segments']]
    encoded = [model.apply(variables, *source, method='encode')]
    seen = source[1:]
  first, cache = step([tokens[:, :3], cache, jnp.int32(0), *seen, *encoded])
  rest, _ = step([tokens[:, 3:], cache, jnp.int32(3), *seen])
  return jnp.concatenate([first, rest], axis=1)


def step(params, grads):
  """0.1 down the gradient."""
  grads = jax.device_get(grads)
  norm = sum(np.sum(g**2) for g in jax.tree.leaves(grads)) ** 0.5
  return jax.tree.map(lambda p, g: p - 0.1 * g / norm, params, grads)


@pytest.mark.parametrize('fields', cases())
def test_one_choice_changed(fields):
  reason = refusal(fields)
  if reason:
    with pytest.raises(ValueError, match=reason):
      TransformerConfig(**fields)
    return
  config = TransformerConfig(**fields)
  model, objective = build(config), objective_for(config)
  batch = batch_for(config)
  inputs = {name: batch[name] for name in model.INPUTS}
  boxed = jax.eval_shape(
    lambda key: model.init({'params': key, 'sample': key}, **inputs)['params'],
    jax.random.key(0),
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: 0.3 * rng.normal(size=x.shape).astype('float32'), nn.unbox(boxed)
  )

  def loss(params):
    sums = objective.sums(model, params, batch)
    return objective.means(sums | objective.weights(batch))['loss']

  # Op by op: most operations are those of other cases, and compiled already.
  first, grads = jax.value_and_grad(loss)(params)
  params = step(params, grads)
  last = float(loss(params))
  assert last < float(first)
  if config.family not in ('encoder', 'electra'):
    # The cache's loss is the loss.
    logits = decoded(model, params, batch)
    chosen = np.take_along_axis(
      np.asarray(jax.nn.log_softmax(logits)), batch['targets'][..., None], -1
    )
    assert -chosen.mean() == pytest.approx(last, rel=1e-4)


# ---- As configs -------------------------------------------------------------


def check(config):
  """What a run checks before anything is built."""
  check_settings(config, devices=1)
  TransformerConfig(**config.model)
  batch_shapes(DataConfig(**config.data), config.model.family)


@pytest.mark.parametrize('system', [*TINY, 'llama:version=2'])  # long rows
def test_a_change_needs_nothing_else(system):
  for overrides in ablations.sweep(system):
    config = tree.config_of(system)
    config.update_from_flattened_dict(overrides)
    data, family = config.data, config.model.family
    kind = 'causal'
    if data.objective != kind:
      kind = 'masked' if 'masking' in OBJECTIVES[data.objective][0] else 'pairs'
    reason = refusal(dict(config.model))
    if family not in FAMILIES[kind]:
      reason = f'{data.objective!r} makes rows for model.family'
    if not reason:
      check(config)
      continue
    with pytest.raises(ValueError, match=reason):
      check(config)


def test_companions_are_of_every_value():
  assert ablations.FIELDS['position'] == tuple(ablations.POSITIONS)
  assert ablations.FIELDS['objective'] == tuple(ablations.OBJECTIVES)


@pytest.mark.parametrize(
  ('arg', 'published'),
  [
    ('t5:objective=iid_spans', 't5:recipe=baseline'),
    ('t5:tiny,recipe=baseline,objective=span_corruption', 't5:tiny'),
    ('t5:version=1.1,objective=ul2', 'ul2'),
    ('llama:tiny,objective=ul2', 'ul2:tiny'),
    ('ul2:variant=flan,objective=prefix', 'ul2:variant=flan'),
    ('roberta:objective=sentence_pairs', 'bert:length=512'),
    ('bert:tiny,objective=full_sentences', 'roberta:tiny'),
    ('llama:version=2,position=relative_bias', 't5'),
    ('gpt2:tiny,position=rope', 'llama:tiny'),
    ('llama:tiny,version=3.1,position=learned', 'gpt2:tiny'),
  ],
)
def test_companions_are_the_papers(arg, published):
  """What goes with a value is as in a system that has it."""
  config, other = ablations.get_config(arg), tree.config_of(published)
  group, tables = 'model', ablations.POSITIONS
  keys, kept = ['position', 'position_offset', 'rope_scaling'], ()
  if 'objective' in arg:
    group, tables = 'data', ablations.OBJECTIVES
    keys, kept = ['objective', 'pack'], ('masking', 'duplicates', 'curriculum')
  keys += [key for own in tables.values() for key in own if key not in kept]
  assert {k: config[group][k] for k in keys} == {
    k: other[group][k] for k in keys
  }


@pytest.mark.parametrize(
  ('arg', 'changed'),
  [
    (
      'llama:bias=mlp,tiny,kv_heads=1,version=3,gated=False',
      {
        'model.kv_heads': (2, 1),
        'model.gated': (True, False),
        'model.bias': ('none', 'mlp'),
      },
    ),
    (
      'gpt2:objective=bert_style',
      {
        'data.objective': ('causal', 'bert_style'),
        'data.noise_density': (0.0, 0.15),
        'data.random_share': (0.0, 0.1),
        'data.sentinels': (0, 200),
        'data.document_tokens': (0, 65_536),
        'data.start': ('none', 'pad'),
      },
    ),
    (
      'electra:large,objective=doc_sentences',
      {'data.objective': ('mlm', 'doc_sentences')},
    ),
    (
      'roberta:tiny,objective=sentence_pairs',
      {
        'model.token_types': (0, 2),
        'model.head': ('mlm', 'mlm_nsp'),
        'data.objective': ('full_sentences', 'sentence_pairs'),
        'data.short_share': (0.0, 0.1),
        'data.pack': (True, False),
      },
    ),
    ('gpt2:position=learned,norm=layer_norm', {}),
  ],
)
def test_nothing_else_differs(arg, changed):
  system = tree.config_of(ablations.split(arg)[0])
  assert tree.difference(system, ablations.get_config(arg)) == changed


@pytest.mark.parametrize(
  'system', sorted({key.partition(':')[0] for key in tree.SYSTEMS})
)
def test_every_argument_of_a_system_can_stand_beside_a_field(system):
  """Sizes named 'base' among them, which are near the field 'bias'."""
  args = []
  for size, value in tree.module_of(system).SIZES.items():
    if isinstance(value, dict):
      args += [f'{s},version={size}' for s in value]
    else:
      args += [size, f'size={size}']
  for arg in args:
    config = tree.config_of(f'{system}:{arg}')
    same = f'norm={config.model.norm}'
    for text in (f'{system}:{arg},{same}', f'{system}:{same},{arg}'):
      assert ablations.get_config(text) == config


# What an objective brings to rows of 512 tokens that had none of it, typed from
# T5's gin files, table 1 of UL2 and BERT's create_pretraining_data.py.
_CHUNK = {'document_tokens': 65536}
_SPANS = _CHUNK | {'noise_density': 0.15, 'sentinels': 100}
_MASKS = {
  'noise_density': 0.15,
  'predictions': 77,
  'masking': 'bert',
  'masked_share': 0.8,
  'random_share': 0.1,
}
BROUGHT = {
  'prefix': _CHUNK | {'concatenate': False},
  'span_corruption': _SPANS | {'mean_span_length': 3.0},
  'iid_spans': _SPANS | {'target_length': 192},
  'drop_tokens': _CHUNK | {'noise_density': 0.15, 'target_length': 104},
  'bert_style': _SPANS | {'random_share': 0.1},
  'mass_style': _SPANS,
  'deshuffling': _CHUNK | {'concatenate': False},
  'ul2': _CHUNK | {'denoisers': recipe_pairs.DENOISERS, 'sentinels': 128},
  'mlm': _MASKS,
  'sentence_pairs': _MASKS | {'short_share': 0.1, 'pack': False},
  'full_sentences': _MASKS,
  'doc_sentences': _MASKS,
}
# And a position to GPT-1's heads of 64: T5, 2.1; RoFormer, 3.2.
PLACED = {
  'none': {},
  'sinusoidal': {},
  'relative_bias': {'relative_buckets': 32, 'relative_max_distance': 128},
  'transformer_xl': {},
  'rope': {'rope_theta': 10_000.0, 'rope_dim': 64},
  'alibi': {},
}


@pytest.mark.parametrize(
  ('group', 'field', 'value', 'brought'),
  [
    *(('data', 'objective', *pair) for pair in BROUGHT.items()),
    *(('model', 'position', *pair) for pair in PLACED.items()),
  ],
)
def test_what_a_value_brings(group, field, value, brought):
  before = tree.config_of('gpt1')
  after = ablations.get_config(f'gpt1:{field}={value}')
  brought = brought | {field: value}
  if field == 'objective':
    brought['start'] = 'pad'  # windows of T + 1 tokens are of causal rows alone
  if field == 'position':
    brought['max_length'] = 0  # of learned positions
  found = tree.difference(before, after)
  assert {k: new for k, (_, new) in found.items()} == {
    f'{group}.{key}': x for key, x in brought.items()
  }


@pytest.mark.parametrize(
  ('arg', 'length', 'joined'),
  [  # T5's published gin files: iid_15_d_d, iid_15_u_u, prefix_lm, all_permute
    ('t5:recipe=baseline,objective=drop_tokens', 104, True),
    ('t5:objective=drop_tokens', 104, True),
    ('t5:objective=iid_spans', 192, True),
    ('t5:objective=prefix', 0, False),
    ('t5:objective=deshuffling', 0, False),
    ('t5:objective=bert_style', 0, True),
    ('flan_t5:objective=span_corruption', 0, True),
    ('llama:8b,version=3,objective=span_corruption', 0, False),
    ('llama:8b,version=3,objective=prefix', 0, False),
    ('electra:objective=full_sentences', 0, False),
  ],
)
def test_targets_and_documents_of_an_objective(arg, length, joined):
  data = ablations.get_config(arg).data
  assert (data.target_length, data.concatenate) == (length, joined)


def test_another_objective_has_a_target_length_of_its_own():
  config = ablations.get_config('t5:objective=drop_tokens')
  config.update_from_flattened_dict(
    ablations.change(config, 'objective', 'iid_spans')
  )
  assert config.data.target_length == 192


def test_without_inputs_there_is_no_prefix():
  config = ablations.get_config('gpt2:tiny,objective=prefix')
  config.model.prefix = True
  changed = ablations.change(config, 'objective', 'causal')
  assert changed['model.prefix'] is False


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('gtp2,bias=all', "system 'gtp2' is unknown. Did you mean 'gpt2'?"),
    ('gpt2:tny,bias=all', "size 'tny' is unknown. Did you mean 'tiny'?"),
    ('gpt2:tiny,bais=all', "field 'bais' is unknown. Did you mean 'bias'?"),
    ('gpt2:tiny,bias', "bias '' is unknown. There are: none, mlp, all."),
    ('t5:bse,bias=all', "size 'bse' is unknown. Did you mean 'base'?"),
    ('t5:tiny,vrsion=1.1', "'vrsion' is unknown. Did you mean 'version'?"),
    ('gpt2:bias=al', "bias 'al' is unknown. Did you mean 'all'? There are: "),
    ('gpt2:objective=ul', "Did you mean 'ul2'? There are: causal, prefix,"),
    ('gpt2:tiny,gated=true', "gated 'true' is unknown. Did you mean 'True'?"),
    ('gpt2:tiny,kv_heads=few', "kv_heads is 'few'; it must be a whole number"),
    ('gpt4:bias=all', 'The architecture of GPT-4 was never published.'),
  ],
)  # fmt: skip
def test_mistakes(arg, message):
  with pytest.raises(ValueError) as caught:
    ablations.get_config(arg)
  assert message in str(caught.value)


def test_the_tree_shows_what_an_ablation_changes():
  text = tree.show_difference('ablations:gpt2:tiny,position=rope')
  shown = [line.split() for line in text.splitlines() if line[:2] == '  ']
  assert shown == [
    ['max_length', '128', '0'],
    ['position', 'learned', 'rope'],
    ['rope_dim', '0', '16'],
    ['rope_theta', '0', '10000'],
  ]


def test_an_ablation_trains(tmp_path):
  """With a vocabulary of GPT-2's kind that has sentinels and modes."""
  config = ablations.get_config('gpt2:tiny,position=alibi,objective=ul2')
  size = {'model.vocab_size': 512, 'model.embed_dim': 16, 'model.mlp_dim': 16}
  run = {
    'data.source': runs.write_text(tmp_path / 'text'),
    'data.batch': 8,
    'data.length': 128,
    'schedule.warmup_steps': 1,
    'train.steps': 2,
    'eval.samples': 0,
  }
  config.update_from_flattened_dict(runs.CONFIG | size | run)
  train(config, str(tmp_path / 'run'))
  assert len(runs.rows(tmp_path / 'run')) == 2
