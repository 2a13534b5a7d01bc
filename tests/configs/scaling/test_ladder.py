"""Ladders: their sizes, tokens and FLOPs, and what they refuse."""

import math
import re

import pytest

from configs.scaling import __main__ as planner
from configs.scaling import counts, flops, ladder, shapes
from models.config import TransformerConfig

ARG = 'llama:tiny,budgets=1e15+1e16,sizes=4,spread=8'


def config_of(found, run):
  """The config of a run, as a sweep makes it."""
  config = found.config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(run.keys)
  return config


def test_keys_without_a_value_keep_their_type():
  """A flag can set one: another optimizer's."""
  config = ladder.get_config(f'{ARG.replace("llama", "t5")},model.scan=False')
  assert config.optimizer.bias_correction is None
  assert config.optimizer.get_type('bias_correction') is bool
  assert config.model.scan is False


@pytest.mark.parametrize('convention', flops.CONVENTIONS)
def test_runs_of_a_budget_cost_it(convention):
  """Approach 2: FLOPs are the budget's, within a step of 500."""
  found = ladder.read(f'{ARG},flops={convention}')
  runs = ladder.runs(found)
  assert len(runs) == 8
  for run in runs:
    config = config_of(found, run)
    made = config.train.steps * flops.of_step(config, convention)
    assert made == pytest.approx(run.flops)
    assert made == pytest.approx(run.budget, rel=0.002)
    assert config.train.steps >= 500
    tokens = config.train.steps * config.data.batch * config.data.length
    assert tokens == run.tokens
    assert counts.params(config.model) == run.shape.params
    # The schedule ends with the run (Hoffmann et al. 2022, appendix B).
    assert config.schedule.decay_steps == 0
    assert config.schedule.warmup_steps <= config.train.steps / 10
    assert config.eval.every * 4 >= config.train.steps


def test_sizes_surround_the_best_one():
  found = ladder.read('gpt3:xl,budgets=1e20,sizes=5,spread=16')
  sizes = [run.shape.params for run in ladder.runs(found)]
  best = found.law.best(1e20)[0]
  assert sorted(sizes)[2] == pytest.approx(best, rel=0.05)
  assert max(sizes) / min(sizes) == pytest.approx(16, rel=0.1)


def test_approach_1_trains_each_size_for_several_lengths():
  found = ladder.read(f'{ARG},approach=1,horizons=4,range=16')
  by_shape = {}
  for run in ladder.runs(found):
    by_shape.setdefault(run.shape.name, []).append(run.tokens)
  assert len(by_shape) == 4
  for tokens in by_shape.values():
    assert len(tokens) == 4
    assert max(tokens) / min(tokens) == pytest.approx(16, rel=0.01)


def test_approach_3_has_the_runs_of_both():
  names = {
    n: {run.name for run in ladder.runs(ladder.read(f'{ARG},approach={n}'))}
    for n in '123'
  }
  assert names['3'] == names['1'] | names['2']


def test_a_ladder_is_a_sweep():
  """Flat overrides of keys that are there, each run with a name of its own."""
  runs = list(ladder.sweep(ARG))
  config = ladder.get_config(ARG)
  names = [run.pop('name') for run in runs]
  assert len({*names}) == len(names) == 8
  assert all(re.fullmatch(r'[\w.-]+', name) for name in names)
  for run in runs:
    for key, value in run.items():
      group, name = key.split('.')
      assert config[group][name] != value


@pytest.mark.parametrize('rule', shapes.RULES)
@pytest.mark.parametrize(
  'system', ['llama:7b', 'llama:70b,version=2', 'bert', 't5', 'rwkv', 'palm',
             'electra:small', 'bloom', 'gopher']
)  # fmt: skip
def test_every_rule_makes_models(system, rule):
  """The shapes are valid configs of about the size that was asked for."""
  found = ladder.read(f'{system},budgets=1e18')
  family = shapes.Family(found.system, found.config, rule)
  for N in (1e7, 1e8, 1e9):
    shape = family.nearest(N)
    config = found.config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(shape.keys)
    TransformerConfig(**config.model)
    assert counts.params(config.model) == shape.params
    if rule != 'published' and N > 1e8:
      assert shape.params == pytest.approx(N, rel=0.35)


def test_rules_keep_their_proportions():
  found = ladder.read('llama:7b,budgets=1e18')
  own = shapes.Family(found.system, found.config, 'system').nearest(1e9).keys
  assert own['model.embed_dim'] / own['model.decoder_layers'] == pytest.approx(
    128, rel=0.25
  )
  found = ladder.read('gpt3:xl,budgets=1e18')
  row = shapes.Family(found.system, found.config, 'chinchilla').nearest(1e9)
  assert row.name in ('20x1792', '23x1792')  # table A9
  assert row.keys['model.mlp_dim'] == 4 * 1792
  row = shapes.Family(found.system, found.config, 'kaplan').nearest(1e9)
  assert row.keys['model.mlp_dim'] == 4 * row.keys['model.embed_dim']
  assert row.keys['model.head_dim'] == 64
  row = shapes.Family(found.system, found.config, 'published').nearest(1.3e9)
  assert row.name == 'xl'
  assert row.keys == {}


def test_a_published_size_is_the_nearest_of_its_own_family():
  """7b has LLaMA's own proportions: its own rule gives it back."""
  found = ladder.read('llama:7b,budgets=1e18')
  family = shapes.Family(found.system, found.config, 'system')
  size = counts.params(found.config.model)
  assert family.nearest(size).params == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('', 'system'),
    ('llama', 'needs budgets'),
    ('lama,budgets=1e15', "Did you mean 'llama'"),
    ('llama,budgets=many', 'budgets=many must be a positive number'),
    ('llama,budgets=-1e15', 'must be a positive number'),
    ('llama,budgets=1e9', 'raise the budget'),
    ('llama,budgets=1e15,rule=kaplann', "Did you mean 'kaplan'"),
    ('llama,budgets=1e15,ruel=kaplan', 'Options of a ladder'),
    ('llama,budgets=1e15,law=openai', 'There are: hoffmann'),
    ('llama,budgets=1e15,approach=4', 'must be 1, 2 or 3'),
    ('llama,budgets=1e15,sizes=2.5', 'must be a whole number'),
    ('llama,budgets=1e15,data.lenght=64', "Did you mean 'data.length'"),
    ('llama,budgets=1e15,data.length=long', 'data.length=long is no int'),
    ('llama,budgets=1e15,model.scan=maybe', 'model.scan=maybe is no bool'),
  ],
)
def test_bad_ladders(arg, message):
  with pytest.raises(ValueError, match=message):
    ladder.runs(ladder.read(arg))


def test_a_plan_says_what_it_costs():
  found = ladder.read('gpt3:xl,budgets=1e20+1e21')
  text = planner.plan(found, {'v5e': 1e14})
  runs = ladder.runs(found)
  total = sum(run.flops for run in runs)
  assert f'{total / 1e14 / 3600:.3g} h v5e' in text
  assert all(run.name in text for run in runs)
  assert 'What a wrong guess costs' in text
  assert 'configs/scaling/ladder.py:gpt3:xl,budgets=1e20+1e21' in text
  assert 'Warning' not in text


def test_a_plan_names_the_fit_of_its_runs():
  text = planner.plan(ladder.read('llama,budgets=1e17,flops=exact'), {})
  assert 'fit DIR --count=total --flops=exact --law=chinchilla --out' in text
  text = planner.plan(ladder.read('llama,budgets=1e17+1e18'), {})
  assert 'fit DIR --count=total --law=isoflop,chinchilla --out' in text
  with pytest.raises(ValueError, match='spread=0.5 must be at least 1'):
    ladder.runs(ladder.read('llama,budgets=1e17,spread=0.5'))


def test_a_plan_warns():
  text = planner.plan(ladder.read('llama,budgets=1e15'), {})
  assert 'extrapolated' in text
  assert 'parameters in tables' in text
  assert 'a parabola needs 4' in text
  assert 'at the edge of the sizes' in text


def test_devices():
  assert planner.speed('2e12', 0.4) == 2e12
  assert planner.speed('v5e', 0.5) == pytest.approx(197e12 / 2)
  with pytest.raises(ValueError, match="'v9' is unknown"):
    planner.speed('v9', 0.5)


def test_short_numbers():
  assert planner.short(12_345_678) == '12.3M'
  assert planner.short(999) == '999'
  assert math.isclose(float(planner.short(2.5e15)[:-1]), 2500)
