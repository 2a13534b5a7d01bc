"""The tree of systems: its shape, its differences and the command."""

import re
import subprocess
import sys

import pytest

from configs import bert, common, phases, tree
from configs.plotting.layout import BRANCHES
from models.config import TransformerConfig
from tests.helpers import REPOSITORY
from tests.helpers.slices import devices_of
from train.learning.optimizer import USES
from train.learning.schedules import make_schedule
from train.parallel.mesh import make_mesh
from train.settings import check_group, check_settings

UNDISCLOSED = ('bard', 'gpt4', 'jurassic2', 'palm2')
# Files of configs/ that are not systems.
OTHERS = {
  '__init__',
  'ablations',
  'arguments',
  'common',
  'differences',
  'grids',
  'in_context',
  'instructions',
  'keys',
  'lineage',
  'model_keys',
  'paper',
  'phases',
  'systems',
  'tree',
}


def date(key):
  return tree.SYSTEMS[key].year, tree.SYSTEMS[key].month


def test_every_config_file_stands_in_the_tree():
  files = {path.stem for path in (REPOSITORY / 'configs').glob('*.py')}
  assert files - OTHERS == {key.split(':')[0] for key in tree.SYSTEMS}


@pytest.mark.parametrize('key', tree.SYSTEMS)
def test_a_system_builds_and_descends_from_an_older_one(key):
  ancestor = tree.ancestor_of(key)
  if ancestor:
    assert date(tree.key_of(ancestor)) < date(key)
    tree.config_of(ancestor)  # with exactly this argument
  if key in UNDISCLOSED:
    assert tree.module_of(key).SIZES == {}
    with pytest.raises(ValueError, match='never published'):
      tree.config_of(key)
  else:
    assert tree.config_of(key).is_locked
    assert tree.config_of(f'{key.split(":")[0]}:tiny').is_locked


@pytest.mark.parametrize(
  'name', dict.fromkeys(key.split(':')[0] for key in tree.SYSTEMS)
)
def test_every_recipe_can_run(name):
  """Each size has every key it needs, a mesh and a schedule."""
  module = tree.module_of(name)
  arguments = list(module.SIZES)
  if arguments and isinstance(module.SIZES[arguments[0]], dict):
    arguments = [
      f'{size},version={version}'
      for version, sizes in module.SIZES.items()
      for size in sizes
    ]
  for argument in arguments:
    config = module.get_config(argument)
    check_settings(config, devices_of(config, 8))
    TransformerConfig(**config.model)
    if not config.sharding.topology:  # there are 8 devices here
      make_mesh(config.sharding.mesh, config.sharding.rules)
    schedule = make_schedule(
      config.schedule, config.train.steps, phases.of(config)
    )
    assert schedule(config.train.steps // 2) > 0
    check_group('optimizer', config.optimizer, USES)
    assert config.data.batch % config.data.streams == 0
    if argument.startswith('tiny'):
      assert config.train.steps <= 300
      made = config.data.mixture[:1] == (('task:flan/words/copy', 0),)
      assert made or config.data.source == 'docs'
      assert config.model.dtype == 'float32'


@pytest.mark.parametrize('key', tree.SYSTEMS)
def test_a_file_says_what_the_published_run_cost(key):
  """The file also says what the run reached, or that it is not published."""
  text = tree.module_of(key).__doc__
  if key in UNDISCLOSED:
    assert 'not published' in text
  else:
    assert re.search(r'(?m)^Cost.*[:.] .*(?s:.*)^Reached.*[:.] ', text)


def test_roots_and_order():
  assert [k for k in tree.SYSTEMS if not tree.ancestor_of(k)] == [
    'transformer',
    'rwkv',
  ]
  assert list(tree.SYSTEMS) == sorted(tree.SYSTEMS, key=date)
  branches = {s.branch for s in tree.SYSTEMS.values()}
  assert branches == set(BRANCHES)


def test_versions_descend_from_one_another():
  assert tree.ancestor_of('llama:70b,version=3.1') == 'llama:8b,version=3'
  assert tree.ancestor_of('llama:version=3') == 'llama:version=2'
  assert tree.ancestor_of('llama:size=8b,version=3') == 'llama:version=2'
  assert tree.ancestor_of('llama:version=2') == 'llama'
  assert tree.ancestor_of('ul2:variant=flan') == 'ul2'
  assert tree.key_of('bert:large') == 'bert'


@pytest.mark.parametrize('key', UNDISCLOSED)
def test_undisclosed_systems_name_an_ancestor_to_use(key):
  with pytest.raises(ValueError) as caught:
    tree.config_of(key)
  name, _, arg = tree.ancestor_of(key).partition(':')
  assert f'--config=configs/{name}.py:{arg} ' in str(caught.value)


def test_difference_is_exact():
  """The difference turns one config into the other and has nothing else."""
  for pair in (('gpt2', 'llama'), ('rwkv', 't5'), ('bert:2x128', 'electra')):
    old, new = map(tree.config_of, pair)
    found = tree.difference(old, new)
    assert all(x != y for x, y in found.values())
    patched = old.copy_and_resolve_references().unlock()
    for key, (before, after) in found.items():
      group, *path, name = key.split('.')
      if not path and group in patched:
        assert patched[group].get(name) == before
      node = patched[group]
      for part in path:
        node = node[part]
      if after is None and name not in common.base()[group]:
        del node[name]
      else:
        node[name] = after
    assert patched.lock() == new
  config = bert.get_config()
  assert tree.difference(config, config) == {}
  with config.unlocked():
    config.model.embed_dim = 999
  assert tree.difference(bert.get_config(), config) == {
    'model.embed_dim': (768, 999)
  }


def test_difference_as_text():
  text = tree.show_difference('roberta')
  assert text == tree.show_difference('roberta', 'bert')
  assert text == tree.show_difference('bert', 'roberta')  # the older is left
  lines = [line.split() for line in text.splitlines()]
  assert ['model', 'bert', 'roberta'] in lines
  assert ['vocab_size', '30,522', '50,265'] in lines
  assert ['position_offset', '0', '2'] in lines
  assert 'embed_dim' not in text  # the same in both
  heads = [line[0] for line in lines if line[1:] == ['bert', 'roberta']]
  groups = [head for head in heads if head != 'masking']  # a key's values
  assert groups == ['model', 'data', 'optimizer', 'schedule', 'train']
  assert 'are the same' in tree.show_difference('bert', 'bert:base')
  # Every float is shown in full, so that different ones look different.
  assert 'learning_rate' in (text := tree.show_difference('transformer', 't5'))
  assert repr(512**-0.5) in text


@pytest.mark.parametrize(
  ('arguments', 'heading'),
  [
    # The ancestor in the same size, if it has that size; the older is left.
    (('llama:70b,version=3',), 'llama:70b,version=2  llama:70b,version=3'),
    (('chinchilla:44m',), 'gopher:44m  chinchilla:44m'),
    (('llama:7b',), 'palm:62b'),
    (('palm:8b', 'palm:540b'), 'palm:8b  palm:540b'),
    (('llama:7b,version=2', 'llama:7b'), 'llama:7b  llama:7b,version=2'),
  ],
)
def test_what_is_compared(arguments, heading):
  line = tree.show_difference(*arguments).splitlines()[2]
  assert re.sub('   +', '  ', line).startswith(f'model  {heading}')


def test_long_values_are_wrapped():
  lines = tree.show_difference('ul2:variant=flan').splitlines()[1:]
  assert max(map(len, lines)) <= 110


@pytest.mark.parametrize('key', tree.SYSTEMS)
def test_every_edge_has_a_difference(key):
  if key in UNDISCLOSED:
    with pytest.raises(ValueError, match='never published'):
      tree.show_difference(key)
  elif tree.ancestor_of(key):
    assert '\nmodel ' in tree.show_difference(key)
  else:
    with pytest.raises(ValueError, match=f'{key}. has no ancestor here'):
      tree.show_difference(key)


def test_tree_as_text():
  text = tree.show_tree()
  assert all(len(line) <= 96 for line in text.splitlines())
  assert all(len(line) <= 80 for line in tree.show_tree(80).splitlines())
  for s in tree.SYSTEMS.values():
    name = re.compile(rf'(^|[─│ ]){re.escape(s.name)}  ')
    (line,) = (line for line in text.splitlines() if name.search(line))
    assert f'{s.year}-{s.month:02}  {s.organisation}' in line
    assert ('●' if s.open else '○') in line
  assert 'tiny' not in text
  (line,) = (line for line in text.splitlines() if 'ELECTRA' in line)
  assert line.endswith('small base large')
  assert text.count('undisclosed') == len(UNDISCLOSED)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('lama',), "system 'lama' is unknown. Did you mean 'llama'? There are: "),
    (('GPT-2',), "Did you mean 'gpt2'?"),
    (('bert', 'xlnet-x'), "system 'xlnet-x' is unknown."),
    (('ablations',), "system '' is unknown. There are: "),
    (('bert:lrge',), "size 'lrge' is unknown. Did you mean 'large'?"),
    (('bert', 'gpt4'), 'The architecture of GPT-4 was never published.'),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(ValueError) as caught:
    tree.show_difference(*arguments)
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ('flags', 'out', 'err'),
  [
    ((), 'RoBERTa', ''),
    (('--diff', 'gpt2', 'llama'), 'rope_theta', ''),
    (('--diff=roberta',), 'position_offset', ''),
    (('--diff', 'gpt5'), '', "Error: system 'gpt5' is unknown. Did you mean"),
    (('--diff', 'bert', 't5', 'ul2'), '', 'Error: unknown arguments: ul2'),
    (('bert',), '', 'Error: unknown arguments: bert. See --help.'),
    (('--plot', 'no/such/tree.png'), '', 'Error: '),
    (('--plot=tree.jpg',), '', 'Error: --plot=tree.jpg: the file must end in '),
  ],
)
def test_command(flags, out, err):
  done = subprocess.run(
    [sys.executable, '-m', 'configs.tree', *flags],
    cwd=REPOSITORY,
    env={'PATH': '', 'PYTHONIOENCODING': 'utf-8'},
    capture_output=True,
    text=True,
    encoding='utf-8',
  )
  assert done.returncode == bool(err), done.stderr
  assert out in done.stdout
  assert done.stderr.startswith(err)
  assert 'Traceback' not in done.stderr


def test_a_plot_without_a_name(tmp_path):
  """The page and both kinds of pictures, here."""
  done = subprocess.run(
    [sys.executable, '-m', 'configs.tree', '--plot'],
    cwd=tmp_path, env={'PATH': '', 'PYTHONPATH': REPOSITORY},
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert sorted(x.name for x in tmp_path.iterdir()) == [
    'tree.html', 'tree.png', 'tree.svg',
  ]  # fmt: skip
