"""Large published runs on their slices: configs, results and docs/pods.md."""

import json
import math

import pytest

from benchmarks import pods
from configs import chinchilla, tree
from input_pipeline.config import data_config
from tests.configs.test_parameter_counts import PUBLISHED
from tests.helpers.slices import NEEDS_COMPILER, devices_of
from train.parallel.checks import check_mesh

RESULTS = json.loads(pods.RESULTS.read_text())
CONFIGS = pods.configs()


def test_every_large_run_has_a_slice():
  """1B parameters or more by count; Chinchilla's names are counts."""
  counts = {name: count for name, (_, count) in PUBLISHED.items()}
  for size in {*chinchilla.SIZES} - {'70b', 'tiny'}:
    counts[f'chinchilla:{size}'] = int(size[:-1]) * 1e6
  for name, count in counts.items():
    large = count >= 1e9 or name.startswith(('bert:large', 'electra:large'))
    assert bool(tree.config_of(name).sharding.topology) == large, name


@pytest.mark.parametrize('name', RESULTS)
def test_a_row_is_of_its_config(name):
  config, row = CONFIGS[name], RESULTS[name]
  settings = pods.settings(config)
  assert row | settings == row
  assert math.prod(settings['mesh'].values()) == row['devices']
  assert row['devices'] == devices_of(config, 0)
  assert 'error' not in row
  assert row['fits']
  assert row['peak'] <= row['limit']


@pytest.mark.parametrize('name', RESULTS)
def test_remat_is_the_fastest_that_fits(name):
  """Of those that were compiled; within a percent."""
  for other in RESULTS[name].get('others', {}).values():
    if other:
      assert RESULTS[name]['step_seconds'] <= 1.01 * other['step_seconds']


@pytest.mark.parametrize('name', CONFIGS)
def test_a_slice_suits_its_config(name):
  config = CONFIGS[name]
  check_mesh(config, data_config(config), devices_of(config, 0))


def test_every_config_has_a_row():
  assert [*RESULTS] == [*CONFIGS]


def test_the_page_has_the_results():
  text = pods.PAGE.read_text()
  assert pods.page(text, CONFIGS, RESULTS) == text


def test_layouts_of_papers():
  """PaLM: two pods of 3,072 chips. MT-NLG: 8 x 35 devices a replica."""
  palm, mt_nlg = RESULTS['palm:540b'], RESULTS['mt_nlg:530b']
  assert (palm['topology'], palm['slices']) == ('v4:12x16x16', 2)
  assert palm['mesh'] == {'data': 2, 'fsdp': 256, 'tensor': 12}
  assert mt_nlg['mesh'] == {'data': 8, 'tensor': 8, 'stage': 35}


def test_results_that_are_kept():
  """Those whose config is as it was; the others are compiled again."""
  name = 'llama:7b'
  old = pods.settings(CONFIGS[name]) | {'peak': 1}
  known = {name: CONFIGS[name]}
  assert pods.kept(known, {'gone': old, name: old}) == {name: old}
  for changed in ({'remat': 'none'}, {'length': 512}):
    assert pods.kept(known, {name: old | changed}) == {}


def test_names_have_commas():
  assert pods.names([]) == []
  parts = 'llama:7b', 't5:11b', 'version=1.1', 'recipe=lm_adapted', 'ul2:20b'
  expected = ['llama:7b', 't5:11b,version=1.1,recipe=lm_adapted', 'ul2:20b']
  assert pods.names(parts) == expected


def test_a_row_that_failed():
  found = pods.settings(CONFIGS['palm:540b']) | {'error': 'It does not fit.'}
  line = pods.row('palm:540b', found)
  assert '2 x v4:12x16x16 (6,144)' in line
  assert line.endswith('| It does not fit. |  |  |  |  |  |  |')
  assert line.count('|') == len(pods.COLUMNS) + 1


def test_another_remat():
  report = {'fits': True, 'peak': 7, 'step_seconds': 2.0, 'mfu': 0.5}
  found = pods.with_other(RESULTS['llama:7b'] | {'others': {}}, 'mlp', report)
  too_large = report | {'fits': False, 'error': 'It needs 17 GiB.'}
  found = pods.with_other(found, 'dots', too_large)
  assert found['others'] == {
    'mlp': {'peak': 7, 'step_seconds': 2.0},
    'dots': {},
  }
  line = pods.row('llama:7b', found)
  assert line.endswith('| mlp 2.00; dots does not fit |')
  with pytest.raises(SystemExit, match='remat none: no such thing'):
    pods.with_other(found, 'none', {'error': 'no such thing'})


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_row_again():
  name = 'llama:70b,version=2'  # the quickest to compile
  found = pods.measure(name, CONFIGS[name])
  assert found['peak'] == pytest.approx(RESULTS[name]['peak'], rel=0.02)
