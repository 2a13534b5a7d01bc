"""Every number of every recipe against the tables typed from the papers."""

import pytest
from ml_collections import ConfigDict

from configs import common, phases, tree
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
from tests.configs.recipes import (
  continued,
  decoders,
  encoders,
  gpts,
  pairs,
)
from tests.configs.recipes.numbers import (
  GROUPS,
  NOT_OF_A_RECIPE,
  ON,
  TINY,
  Recipe,
)
from tests.helpers.slices import devices_of
from train.learning import optimizer
from train.learning.schedules import make_schedule
from train.settings import check_group, check_settings

TABLES = (encoders, pairs, gpts, decoders)
SYSTEMS = {k: v for table in TABLES for k, v in table.SYSTEMS.items()}
# Those whose every size has an argument of its own.
FURTHER = continued.VARIANTS | encoders.VARIANTS
VARIANTS = pairs.VARIANTS | decoders.VARIANTS | FURTHER


def flat(config: ConfigDict) -> dict:
  """'group.key' -> value of every key that belongs to a recipe."""
  found = {}
  for group in GROUPS:
    for key, value in config[group].items():
      inner = value.items() if isinstance(value, ConfigDict) else [('', value)]
      for name, x in inner:
        found['.'.join(filter(None, (group, key, name)))] = x
  return {k: x for k, x in found.items() if k not in NOT_OF_A_RECIPE}


KEYS = flat(common.base())


def full(name: str) -> str:
  """The 'group.key' of a column; a name that is not a key stays the same."""
  found = [key for key in KEYS if key == name or key.split('.')[1] == name]
  assert len(found) < 2, f'{name}: write which of {found}'
  return found[0] if found else name


def expected(recipe: Recipe, size: str, changed: dict | None = None) -> dict:
  """The keys that the tables set for a size, and their values.

  `changed` replaces some of them: a tiny config is the row of another size with
  its own small values. Keys that a table sets to off values are included.
  """
  changed = {full(key): value for key, value in (changed or {}).items()}
  row = dict(zip(recipe.columns, recipe.sizes[size], strict=True))
  row = {name: changed.get(full(name), value) for name, value in row.items()}
  every = {
    f'{group}.{key}': value
    for group, own in recipe.every.items()
    for key, value in own.items()
  }
  for own in (row, recipe.derived(row)):
    every |= {full(key): value for key, value in own.items()}
  # Columns that are not keys ('billions') are there for `derived`.
  known = {k: x for k, x in every.items() if k.split('.')[0] in GROUPS}
  return ON | known | changed


def on(values: dict) -> dict:
  """The keys that are on: not 0, '', False, empty or unset."""
  return {key: x for key, x in values.items() if x}


CASES = {
  f'{name}:{size}': (recipe, size, None)
  for name, recipe in SYSTEMS.items()
  for size in recipe.sizes
}
CASES |= {
  f'{name}:tiny{rest}': (recipe, recipe.like, TINY | recipe.tiny)
  for (name, rest), recipe in (
    *(((name, ''), recipe) for name, recipe in SYSTEMS.items()),
    *VARIANTS.items(),
  )
}
CASES |= {
  f'{name}:{size}': (recipe, size, None)
  for name, recipe in (
    ('ul2', pairs.FLAN_UL2),
    *((name, recipe) for (name, _), recipe in FURTHER.items()),
  )
  for size in recipe.sizes
}


@pytest.mark.parametrize('reference', CASES)
def test_the_config_is_the_published_recipe(reference):
  config = tree.config_of(reference)
  recipe, size, changed = CASES[reference]
  wanted = expected(recipe, size, changed)
  found = flat(config)
  named = {key: found.pop(key, None) for key in wanted}
  assert named == wanted
  assert not on(found)  # what no table sets


# How the runs of all systems go; the tiny ones in minutes, on any machine.
GOES = {
  'seed': 0,
  'model.dtype': 'bfloat16',
  'model.scan': True,
  'data.source': 'tfds:c4/en',
  'data.mixture': (),
  'data.documents': 0,
  'data.epochs': 0,
  'data.text_field': 'text',
  'data.tokenizer': '',
  'data.max_bad_share': 0.001,
  'data.threads': 0,
  'data.bos': -1,
  'data.holdout': 0,
  'data.streams': 64,
  'data.block': 0,
  'model.scan_unroll': 1,
  'train.accumulate': 1,
  'train.loss_chunk': -1,
  'train.log_every': 100,
  'eval.source': '',
  'eval.sources': (),
  'eval.every': 10_000,
  'eval.batches': 0,
  'checkpoint.every': 5000,
  'checkpoint.keep': 2,
  'checkpoint.best': '',
  'checkpoint.keep_every': 0,
  'sharding.microbatches': 0,
  'sharding.repeats': 1,
}
FLAN_GOES = {'data.source': '', 'data.holdout': 0, 'data.block': 512}
TINY_GOES = {
  'model.dtype': 'float32',
  'data.source': 'docs',
  'data.holdout': 50,
  'data.streams': 4,
  'train.log_every': 20,
  'eval.every': 100,
  'checkpoint.every': 100,
}


def check_how_it_goes(reference: str, config: ConfigDict) -> None:
  name, m = reference.partition(':')[0], config.model
  goes = dict(GOES)
  if name == 'transformer' or 'recipe=ul2r' in reference:
    goes['data.streams'] = 32
  if 'tiny' in reference:
    goes |= TINY_GOES
  if name == 'flan_t5' or '=flan' in reference:
    goes |= FLAN_GOES
    goes['data.mixture'] = config.data.mixture  # test_instructions.py has it
    if 'tiny' not in reference:
      goes['data.streams'] = 6 if name == 'lamda' else 8
  masked = m.family in ('encoder', 'electra')
  goes['eval.samples'] = 0 if masked else 4
  sliced = ('model.remat', 'train.accumulate', 'sharding.microbatches')
  sliced += tuple(key for key in common.KEYS if key.startswith('sharding.mesh'))
  if config.sharding.topology:  # tests/benchmarks/test_pods.py has these
    goes = {key: x for key, x in goes.items() if key not in sliced}
  else:
    large = name in ('t5', 'flan_t5') and m.embed_dim == 1024  # 0.8B
    goes['model.remat'] = 'full' if large else 'auto'
    goes |= {key: 1 for key in sliced if key.startswith('sharding.mesh')}
    goes[f'sharding.mesh.{"fsdp" if large else "data"}'] = -1
    goes['sharding.slices'] = 0
  found = {}
  for key in goes:
    group = config
    for part in key.split('.'):
      group = group[part]
    found[key] = group
  assert found == goes


@pytest.mark.parametrize('reference', CASES)
def test_every_size_can_start(reference):
  """Every size passes the checks of a run before anything is built."""
  config = tree.config_of(reference)
  check_how_it_goes(reference, config)
  check_settings(config, devices_of(config, 1))
  check_group('optimizer', config.optimizer, optimizer.USES)
  make_schedule(config.schedule, config.train.steps, phases.of(config))
  model = TransformerConfig(**config.model)
  data = DataConfig(**config.data)
  batch_shapes(data, model.family)


def test_nothing_is_on_for_everybody():
  """A default that no table names would change recipes unnoticed."""
  assert on(KEYS) == ON | {'data.tokenizer_kind': 'unigram'}


def test_every_size_of_every_system_has_a_row():
  for name in {key.partition(':')[0] for key in tree.SYSTEMS}:
    module = tree.module_of(name)
    sizes = {*module.SIZES, *getattr(module, 'GRID', ())} - {'tiny'}
    if any(isinstance(x, dict) for x in module.SIZES.values()):
      sizes = {
        f'{size},version={version}'
        for version, own in module.SIZES.items()
        for size in own
        if size != 'tiny'
      }
    assert sizes <= set(SYSTEMS[name].sizes if sizes else ())


DEFAULTS = {
  **dict.fromkeys(('transformer', 'gpt1', 'bert', 'roberta'), 'base'),
  **dict.fromkeys(('electra', 'flan_t5'), 'base'),
  't5': 'base,version=1.0',
  'ul2': '20b',
  'llama': '7b,version=1',
  'gpt2': 'small',
  'gpt3': 'small',
  'jurassic': 'large',
  'gopher': '44m',
  'chinchilla': '70b',
  'lamda': '2b',
  'mt_nlg': '530b',
  'yalm': '100b',
  'palm': '8b',
  'bloom': '560m',
  'rwkv': '169m',
}


@pytest.mark.parametrize('name', SYSTEMS)
def test_the_size_without_an_argument(name):
  assert tree.config_of(name) == tree.config_of(f'{name}:{DEFAULTS[name]}')


def test_adaptation_goes_on_from_version_1_1():
  with pytest.raises(ValueError, match='on from version 1.1: add version=1.1'):
    tree.config_of('t5:recipe=lm_adapted')


def test_flan_has_no_denoisers():
  with pytest.raises(ValueError, match='has no denoisers: leave s_denoiser'):
    tree.config_of('ul2:variant=flan,s_denoiser=code')
