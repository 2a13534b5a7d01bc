"""The table of config keys is the only one, and docs/config.md shows it."""

import dataclasses
import typing

import pytest
from ml_collections import ConfigDict

from configs import common, keys, phases, t5
from input_pipeline import choices
from input_pipeline.config import DataConfig
from models.choices import CHOICES
from models.config import TransformerConfig
from tests.helpers import REPOSITORY
from train import settings
from train.aligning.methods import METHODS
from train.learning import optimizer, schedules, tuning_checks
from train.parallel.sharding import AXES


def group(name: str) -> dict[str, common.Key]:
  """The keys of a group, by the rest of their names."""
  return {
    key.removeprefix(f'{name}.'): value
    for key, value in common.KEYS.items()
    if key.startswith(f'{name}.')
  }


@pytest.mark.parametrize(
  ('name', 'described'),
  [('model', TransformerConfig), ('data', DataConfig)],
)
def test_fields_are_the_keys(name, described):
  """Fields and keys have the same names, types and defaults."""
  fields = {field.name: field for field in dataclasses.fields(described)}
  hints = typing.get_type_hints(described)
  keys = group(name)
  fields.pop('phases', None)  # a key of train
  assert fields.keys() == keys.keys()
  for key, value in keys.items():
    assert (typing.get_origin(hints[key]) or hints[key]) is value.type, key
    default = fields[key].default
    if default is not dataclasses.MISSING:
      assert default == value.default, key


@pytest.mark.parametrize('module', [optimizer, schedules])
def test_keys_that_a_name_uses_are_the_keys(module):
  keys = group(module.__name__.rpartition('.')[2].rstrip('s'))
  used = {key for names in module.USES.values() for key in names}
  assert keys.keys() == {'name', *used}


def test_keys_of_the_run_are_read_by_it():
  """The groups that no class describes have no key too many."""
  source = '\n'.join(
    path.read_text() for path in (REPOSITORY / 'train').rglob('*.py')
  )
  for name in ('train', 'align', 'eval', 'checkpoint', 'sharding'):
    for key in group(name):
      if not key.startswith('mesh.'):
        assert f'{name}.{key}' in source, f'{name}.{key}'
  assert set(AXES) == set(group('sharding.mesh'))


def test_choices_are_those_of_the_code():
  """Every list in the table of keys is that of the code which reads the key."""
  read = {f'model.{name}': tuple(table) for name, table in CHOICES.items()} | {
    'data.objective': tuple(choices.OBJECTIVES),
    'data.masking': choices.MASKING,
    'data.tokenizer_kind': choices.TOKENIZERS,
    'data.normalization': choices.NORMALIZATIONS,
    'data.start': choices.STARTS,
    'data.rates': choices.RATES,
    'data.framing': ('', *choices.FRAMING),
    'data.orders': choices.ORDERS,
    'data.prompts': ('', *choices.PROMPTS),
    'align.method': ('', *METHODS),
    'optimizer.name': tuple(optimizer.USES),
    'optimizer.decay': optimizer.CHOICES['decay'],
    'optimizer.moments_dtype': optimizer.CHOICES['moments_dtype'],
    'train.accumulate_dtype': settings.DTYPES,
    'tuning.train': tuning_checks.CHOICES,
    'tuning.base_dtype': tuning_checks.BASE_DTYPES,
    'schedule.name': tuple(schedules.USES),
    'schedule.unit': phases.UNITS,
  }
  listed = {key: value.choices for key, value in common.KEYS.items()}
  assert {key: names for key, names in listed.items() if names} == read


def test_a_config_has_all_keys_and_no_others():
  base = common.base()
  for key, value in common.KEYS.items():
    found = base
    for name in key.split('.'):
      found = found[name]
    if isinstance(found, ConfigDict):
      found = found.to_dict()
    unset = isinstance(value.default, type)
    assert found is None if unset else found == value.default
    assert value.meaning
  assert {key.split('.')[0] for key in common.KEYS} == set(base)
  with pytest.raises(AttributeError, match='bach'):
    t5.get_config().data.bach = 3


def test_the_document_is_current():
  written = (REPOSITORY / 'docs' / 'config.md').read_text(encoding='utf-8')
  assert written == keys.markdown() + '\n', (
    'run: python -m configs.keys > docs/config.md'
  )
  for key, value in common.KEYS.items():
    (line,) = (x for x in written.split('\n') if x.startswith(f'| `{key}` |'))
    assert f'| {value.type.__name__} |' in line
