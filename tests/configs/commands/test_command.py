"""What all commands share: flags, help, and one line for a mistake."""

import glob
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from configs import common, t5
from configs.commands import command
from tests.helpers import REPOSITORY
from train import __main__ as train_command

C, W = '--config=configs/t5.py:tiny', '--workdir={}/w'
MISTAKES = [
  (
    [C, W, '--config.data.sorce=docs'],
    "the config has no key 'data.sorce'. Did you mean --config.data.source?",
  ),
  (
    [C, W, '--config.model.lr=1'],
    "no key 'model.lr'. Did you mean --config.schedule.learning_rate?",
  ),
  ([C, W, '--config.model.batch=1'], 'Did you mean --config.data.batch?'),
  (['--config=configs/gtp2.py', W], 'Did you mean configs/gpt2.py?'),
  ([C, W, '--noconfig.data.pak'], 'Did you mean --config.data.pack?'),
  ([C, W, '--config.data=4'], '--config.data is a group of keys'),
  ([C, W, '--config.data.batch=four'], '--config.data.batch=four'),
  ([C, '--workdr={}/w'], 'Did you mean: workdir'),
  ([C], '--workdir must have a value'),
  ([C, W, 'docs'], 'unknown arguments: docs'),
  (
    ['--config', 'configs/t5.py:tny', W],
    "size 'tny' is unknown. Did you mean 'tiny'?",
  ),
  (['--config=configs/none.py', W], "there is no file 'configs/none.py'"),
  (['--config=gtp2:tiny', W], "there is no file 'gtp2' in"),
  (['--config=gtp2:tiny', W], 'Did you mean gpt2?'),
  (['--config=t5:tny', W], "size 'tny' is unknown. Did you mean 'tiny'?"),
  (['--config={}/none.py', W], 'has no function get_config'),
  ([W, '--config.seed=1'], 'give --config=FILE.py as well'),
  ([W], 'holds no run yet (no config.json). To begin one, give a config'),
  ([C, '--workdir={}/file'], 'no files can be written there (File exists)'),
  ([C, W, '--process=1'], '--processes and --process need --coordinator'),
  (
    [C, W, '--coordinator=here'],
    'must be HOST:PORT, with a port from 1 to 65535',
  ),
  ([C, W, '--config.model.kv_heads=3'], 'it must divide model.heads'),
  (['--config={}/broken.py', W], None),
]

# `python -m train` with each list of flags, but imported once.
RUN_EACH = """
import json, os, sys, traceback
from train import __main__
from train.runs import command
for number, flags in enumerate(json.load(sys.stdin)):
  if not os.fork():
    os.dup2(os.open(f'{sys.argv[1]}/{number}', os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = ['train', *flags]
    try:
      command.run(__main__.main)
    except BaseException as error:
      if not isinstance(error, SystemExit):
        traceback.print_exc()
      sys.stderr.flush()
      os._exit(getattr(error, 'code', 1))  # a whole shutdown takes seconds
  print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
  """The exit status and the stderr of every mistake's run, and their folder."""
  folder = tmp_path_factory.mktemp('mistakes')
  (folder / 'file').write_text('')
  (folder / 'broken.py').write_text('def get_config():\n  return 1 / 0\n')
  (folder / 'none.py').write_text('x = 1\n')
  runs = [[flag.format(folder) for flag in flags] for flags, _ in MISTAKES]
  done = subprocess.run(
    [sys.executable, '-c', RUN_EACH, folder],
    input=json.dumps(runs),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  codes = [line for line in done.stdout.split('\n') if line in ('0', '1')]
  stderr = [(folder / str(i)).read_text() for i in range(len(runs))]
  return list(zip(codes, stderr, strict=True)), folder


@pytest.mark.parametrize('number', range(len(MISTAKES)))
def test_mistakes_of_the_command_line(ended, number):
  code, stderr = ended[0][number]
  message = MISTAKES[number][1]
  assert code == '1'
  if message is None:  # not the user's mistake: it keeps its traceback
    assert 'Traceback' in stderr
    assert 'broken.py", line 2' in stderr
    assert 'ZeroDivisionError' in stderr
    return
  last = stderr.strip().split('\n')[-1]
  assert last.startswith('Error: ')
  assert message in last
  assert 'Traceback' not in stderr
  assert not (ended[1] / 'w').exists()


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help(capsys, monkeypatch, flag):
  """Help says what the program does, and each key's value and meaning."""
  monkeypatch.setitem(sys.modules, '__main__', train_command)
  with pytest.raises(SystemExit) as ended:
    command._flags(['train', flag, '--config=configs/bert.py:base'], '')
  assert ended.value.code == 0
  shown = capsys.readouterr().out
  assert shown.startswith(train_command.__doc__.strip())
  lines = re.findall(r'(?m)^  ([a-z_0-9.]+)=(\S.*?)  (.+)$', shown)
  found = {key: (value, meaning) for key, value, meaning in lines}
  assert {key: meaning for key, (_, meaning) in found.items()} == {
    key: str(value)
    for key, value in common.KEYS.items()
    if key != 'optimizer.multipliers'  # empty in this config
  }
  assert found['model.embed_dim'][0] == '768'
  assert found['optimizer.name'][0] == "'adamw'"
  assert found['optimizer.clip_threshold'][0] == 'float'


@pytest.mark.parametrize('module', ['configs.tree', 'benchmarks.recipes'])
def test_help_of_programs_without_a_config(module):
  done = subprocess.run(
    [sys.executable, '-m', module, '--help'], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('\n  --') > 1  # its flags
  assert '--config.' not in done.stdout


def test_every_program_is_started_alike():
  """Only command.py starts programs.

  Thus --help, Ctrl-C and closed streams are the same in all of them.
  """
  for path in glob.glob('[a-z]*/**/*.py', recursive=True):
    with open(path) as file:
      used = '  app' + '.run' in file.read()
    assert used == (path == 'configs/commands/command.py'), path


def test_a_summary_shows_what_differs_first():
  """A summary has every key with a value once, in lines that fit."""
  config = t5.get_config('tiny').copy_and_resolve_references().unlock()
  config.seed = 3
  config.train.phases = ((('steps', 9), 0, 64, 0, ''),)
  config.optimizer.multipliers.decay = 2.0
  text = command.summary(config, 80)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 80
  assert len(lines) < 60
  first, rest = text.split("The base's values:\n")
  assert '  seed=3\n' in first
  assert "phases=((('steps', 9), 0, 64, 0, ''),)" in first
  assert 'optimizer.multipliers decay=2.0' in first
  assert 'epsilon2=0.001' in first
  assert 'seed' not in rest
  for word in ('block=0', 'dtype=float32', 'tokenizer_kind=unigram'):
    assert word in (first if word.startswith('dtype') else rest)
  groups = ('model', 'data', 'optimizer', 'schedule', 'train', 'eval')
  for group in groups:
    for key, value in config[group].items():
      if value not in (None, '', ()) and key != 'multipliers':
        assert len(re.findall(rf'\b{key}=', text)) >= 1, key


def test_packaged_configs_are_found_by_name(tmp_path, monkeypatch):
  """A path that exists wins; a name that means no file stays as it is."""
  monkeypatch.chdir(tmp_path)
  packaged = str(REPOSITORY / 'configs' / 't5.py')
  for name in ('t5.py', 't5', 'configs/t5.py', 'configs/t5'):
    assert command.find_config(f'{name}:tiny') == f'{packaged}:tiny'
    assert command.find_config(name) == packaged
  for name in ('t6:tiny', 'mine/t5.py:tiny', './t5.py', ''):
    assert command.find_config(name) == name
  (tmp_path / 't5.py').write_text('')
  (tmp_path / 't5').mkdir()
  assert command.find_config('t5.py:tiny') == 't5.py:tiny'
  assert command.find_config('t5:tiny') == f'{packaged}:tiny'
  arguments = ['train', '--config', 't5:tiny', '-config=t5', '--workdir=t5']
  assert command._readable(arguments) == [
    *('train', '--config', f'{packaged}:tiny', f'-config={packaged}'),
    '--workdir=t5',
  ]


def test_home_folders():
  """Paths in flags are expanded as the shell does after a space."""
  home = os.path.expanduser('~')
  found = [*map(command._expanded, (
    '--workdir=~/x', '-out=~', '--config.data.tokenizer=~/t', '--text=~/x',
    '--workdir=a~/x', '--config=~/c.py:tiny',
  ))]  # fmt: skip
  assert found == [
    f'--workdir={home}/x', f'-out={home}', f'--config.data.tokenizer={home}/t',
    '--text=~/x', '--workdir=a~/x', f'--config={home}/c.py:tiny',
  ]  # fmt: skip


def test_a_terminal_that_cannot_show_a_character():
  done = subprocess.run(
    [sys.executable, '-c', PRINTS],
    env=os.environ | {'PYTHONIOENCODING': 'ascii'},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, 'caf? ?\n'), done.stderr


PRINTS = """
from configs.commands import command
command.run(lambda: print('caf\u00e9 \u2581'))
"""


def test_a_folder_of_the_users_own(tmp_path):
  """A user's folder may be named as one of our packages and hides nothing."""
  for name in ('configs', 'models', 'train', 'input_pipeline'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'common.py').write_text('x = 1')
  done = subprocess.run(
    [sys.executable, '-c', 'import configs.common as c; print(c.base().seed)'],
    env=os.environ | {'PYTHONPATH': os.getcwd()},
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert done.stdout == '0\n', done.stderr
  with open('pyproject.toml', 'rb') as file:
    settings = tomllib.load(file)['tool']['setuptools']
  # An editable installation is then a folder in sys.path, after this one.
  assert settings['package-dir'] == {'': '.'}
