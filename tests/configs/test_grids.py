"""The runs of a sweep: their names, keys and configs."""

import pytest

from configs import ablations, grids, tree

GPT2 = tree.config_of('gpt2:tiny')


def named(grid, own=()):
  return [point.name for point in grids.points(grid, own)]


def config_of(grid, config=GPT2):
  (point,) = grids.points([grid])
  return grids.configured(config, grids.completed(config, point))


def test_a_grid_has_every_combination_once():
  names = named(['model.position=rope,alibi', 'seed=0,1,2'])
  assert names == [
    f'position={x},seed={seed}' for x in ('rope', 'alibi') for seed in range(3)
  ]
  assert [x.group for x in grids.points(['data.batch=1,2', 'seed=0'])] == [
    'batch=1',
    'batch=2',
  ]


def test_names_can_be_folders():
  """Keys that end alike are named whole; nothing needs quotes."""
  assert named(['optimizer.name=lamb', 'schedule.name=cosine']) == [
    'optimizer.name=lamb,schedule.name=cosine'
  ]
  assert named(['data.source=json:/data/*.gz,docs']) == [
    'source=json__data_.gz',
    'source=docs',
  ]
  long = 'x' * 200
  (first, second) = named([f'data.source={long}1,{long}2'])
  assert first != second
  assert len(first) == len(second) == grids.LONGEST
  assert first.startswith('source=xxx')


def test_runs_of_a_file():
  own = [
    {'name': 'small', 'model.embed_dim': 64, 'train.steps': 10},
    {'model.embed_dim': 128, 'optimizer.b1': 0.9},
  ]
  found = grids.points(['sweep', 'seed=0,1'], own)
  assert [x.name for x in found] == [
    'small,seed=0', 'small,seed=1',
    'embed_dim=128,b1=0.9,seed=0', 'embed_dim=128,b1=0.9,seed=1',
  ]  # fmt: skip
  assert found[1].keys == (
    ('model.embed_dim', '64'), ('train.steps', '10'), ('seed', '1'),
  )  # fmt: skip
  config = grids.configured(GPT2, found[1])
  assert config.model.embed_dim == 64
  assert config.train.steps == 10
  assert config.seed == 1


@pytest.mark.parametrize(
  ('grid', 'own', 'message'),
  [
    (['seed=0,0'], (), "2 runs of the sweep have the same name, 'seed=0'"),
    (['sweep'], [{'name': 'a'}, {'name': 'a'}], "the same name, 'a'"),
    (['seed=0', 'seed=1'], (), 'has seed twice: give all its values at once'),
    (['sweep'], [{'name': '../a'}], r"the name '\.\./a'; it becomes"),
    (['sweep'], [{}], "a run without changes needs a 'name'"),
    (['seed'], (), "--grid=seed must be KEY=VALUE,VALUE, or 'sweep'"),
    (['seed=1,'], (), '--grid=seed=1, must be KEY=VALUE,VALUE'),
  ],
)
def test_a_sweep_that_cannot_be_named(grid, own, message):
  with pytest.raises(ValueError, match=message):
    grids.points(grid, own)


@pytest.mark.parametrize(
  ('grid', 'message'),
  [
    ('model.positon=rope', r"no key 'model.positon'. Did you mean model.posit"),
    ('lr=1', 'Did you mean schedule.learning_rate'),
    ('model=1', 'is a group of keys'),
    ('model.position=rop', "model.position 'rop' is unknown. Did you mean 'r"),
    ('seed=a', "--grid=seed: 'a' is not of type int"),
    ('seed=1.5', "--grid=seed: '1.5' is not of type int"),
    ('model.gated=2', "'2' is not of type bool"),
    ('train.phases=(1', r"'\(1' is not of type tuple"),
    ('train.phases=1', "'1' is not of type tuple"),
  ],
)
def test_a_key_or_value_that_cannot_be(grid, message):
  with pytest.raises(ValueError, match=message):
    config_of(grid)


def test_values_of_every_type():
  assert config_of('model.gated=true').model.gated is True
  assert config_of('train.steps=12').train.steps == 12
  assert config_of('optimizer.b1=0').optimizer.b1 == 0.0
  assert config_of('data.tokenizer=a').data.tokenizer == 'a'
  found = grids.points(['train.phases=(),((1, 2), (3, 4))'])
  assert [grids.configured(GPT2, x).train.phases for x in found] == [
    (),
    ((1, 2), (3, 4)),
  ]


def test_two_runs_of_one_config():
  found = grids.points(['schedule.learning_rate=1e-3,0.001'])
  with pytest.raises(ValueError, match="'learning_rate=1e-3' and .* the same"):
    grids.check_configs({x: grids.configured(GPT2, x) for x in found})


@pytest.mark.parametrize('position', ['rope', 'alibi', 'relative_bias'])
def test_a_choice_brings_its_keys_along(position):
  """As in configs/ablations.py; keys that are given stay."""
  found = config_of(f'model.position={position}')
  assert found == ablations.get_config(f'gpt2:tiny,position={position}').lock()
  assert found.model.max_length == 0
  assert GPT2.model.max_length > 0
  (point,) = grids.points(['model.position=rope', 'model.rope_theta=5e5'])
  completed = grids.completed(GPT2, point)
  assert completed.name == point.name
  assert grids.configured(GPT2, completed).model.rope_theta == 5e5


def test_the_runs_of_the_ablations():
  """The system as it is, and each change of one field, with a name."""
  own = grids.of_file(f'{ablations.__file__}:gpt2:tiny')
  found = {x.name: x for x in grids.points(['sweep'], own)}
  fields = {x.partition('=')[0] for x in found}
  assert fields == {'unchanged', *ablations.FIELDS}
  assert grids.configured(GPT2, found['unchanged']) == GPT2
  assert 'position=learned' not in found  # it is GPT-2's own
  rope = grids.configured(GPT2, found['position=rope'])
  assert rope == config_of('model.position=rope')


def test_a_file_without_runs(tmp_path):
  path = tmp_path / 'config.py'
  path.write_text('def get_config():\n  pass\n')
  assert grids.of_file(str(path)) is None
  path.write_text('def sweep(arg):\n  return [arg] if arg else []\n')
  for arg in '', 'x':
    with pytest.raises(ValueError, match='must yield dicts of overrides'):
      grids.of_file(f'{path}:{arg}')
