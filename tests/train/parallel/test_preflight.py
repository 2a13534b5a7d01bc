"""Who is odd, and in what, before a run of several processes compiles."""

import concurrent.futures
import os
import threading

import pytest

from train.parallel import preflight, software
from train.parallel.meeting import Member
from train.parallel.preflight import disagreement, odd

HOSTS = ['a', 'b', 'c', 'd', 'e']


def members(*facts, ahead=()):
  behind = dict(ahead)
  return [
    Member(number, HOSTS[number], None, one, behind.get(number, 0.0))
    for number, one in enumerate(facts)
  ]


def described(**changes):
  """A description, with other values of some keys: version__jax='0.1'."""
  found = {
    'files': {'train/loop.py': '0123456789abcdef', 'models/embed.py': 'aaaa'},
    'versions': {'jax': '0.10.2', 'numpy': '2.0', 'Python': '3.11'},
    'variables': {},
    'commit': {'commit': 'c0ffee'},
  }
  for key, value in changes.items():
    group, _, name = key.partition('__')
    found[group][name] = value
  return found


def test_the_majority_is_right():
  values = [{'x': 1}, {'x': 1}, {'x': 2}, {'x': 1}, {'x': 1}]
  assert odd(values, HOSTS) == ['x is 2 on process 2 (c), 1 on the others']
  values[4] = {}
  assert odd(values, HOSTS) == [
    'x is 2 on process 2 (c), missing on process 4 (e), 1 on the others'
  ]


def test_without_a_majority_all_are_named():
  both = [{'x': 'p', 'y': 0}, {'x': 'q', 'y': 0}]
  assert odd(both, HOSTS) == ['x is p on process 0 (a), q on process 1 (b)']
  four = [{'x': 1}, {'x': 2}, {'x': 2}, {'x': 1}]
  assert odd(four, ['a', 'b', 'b', 'a']) == [
    'x is 1 on processes 0, 3 (a), 2 on processes 1-2 (b)'
  ]


def test_values_alike():
  assert odd([{'x': {'y': [1, 2]}, 'z': {}}] * 3, HOSTS) == []
  assert disagreement('configs', [{'x': 1}] * 2, HOSTS, 'Do.') == ''


def test_nested_and_long_values():
  values = [{'data': {'files': [['f', n]] * 99, 'seed': 0}} for n in (1, 1, 2)]
  (line,) = odd(values, HOSTS)
  assert line.startswith('data.files is [["f", 2], ["f", 2], ')
  assert '... on process 2 (c), [["f", 1]' in line
  assert len(line) < 200


def test_many_differences_are_counted():
  values = [{f'k{i}': i * n for i in range(1, 12)} for n in (1, 2)]
  text = disagreement('configs', values, HOSTS, 'Give the same flags.')
  lines = text.split('\n')
  assert lines[0].endswith('2 processes of this run were started with different'
                           ' configs:')  # fmt: skip
  assert len(lines) == 1 + preflight.SHOWN + 2
  assert lines[-2:] == ['  and 3 more', 'Give the same flags.']


def test_software_alike():
  assert preflight.judge(members(*[described()] * 4)) == ''
  # The code counts, not whether it is in a repository.
  assert (
    preflight.judge(members(described(), described(commit__commit=''))) == ''
  )


def test_software_that_differs():
  one = described(
    commit__commit='badc0de',
    versions__jax='0.10.1',
    variables__LIBTPU_INIT_ARGS='--x',
  )
  one['files']['train/loop.py'] = 'ffffffffffffffff'
  text = preflight.judge(members(described(), described(), one))
  assert text == (
    'The 3 processes of this run were started with different code:\n'
    '  commit is badc0de on process 2 (c), c0ffee on the others\n'
    '  train/loop.py is #ffffff on process 2 (c), #012345 on the others\n'
    'Install the same code on all of them.\n'
    'The 3 processes of this run were started with different packages:\n'
    '  jax is 0.10.1 on process 2 (c), 0.10.2 on the others\n'
    'Install the same versions on all of them.\n'
    'The 3 processes of this run were started with different variables:\n'
    '  LIBTPU_INIT_ARGS is --x on process 2 (c), missing on the others\n'
    'Set the same variables on all of them.'
  )


def test_clocks_that_are_off_are_warned_of(capsys):
  ahead = {1: 37.2, 2: -4.0, 3: -6000.0}
  found = members(*[described()] * 4, ahead=ahead)
  assert preflight.judge(found) == ''
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2
  assert (
    'the clock of process 1 (b) is 37 s ahead of that of process 0 (a)'
    in (lines[0])
  )
  assert 'the clock of process 3 (d) is 6000 s behind that of proc' in lines[1]


def test_what_describes_this_program(monkeypatch):
  monkeypatch.setenv('JAX_ENABLE_X64', '0')
  monkeypatch.setenv('XLA_FLAGS', '--b --xla_dump_to=/x --a')
  found = software.described()
  assert {'train/loop.py', 'configs/t5.py', 'models/embed.py'} <= (
    found['files'].keys()
  )
  assert 'input_pipeline/pipeline.py' in found['files']
  assert {'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'orbax-checkpoint'} <= (
    found['versions'].keys()
  )
  assert 'tensorflow-cpu' not in found['versions']  # one package, two names
  assert found['variables']['XLA_FLAGS'] == '--a --b'
  assert found['variables']['JAX_ENABLE_X64'] == '0'


class Asking:
  """`ask` of processes that are threads."""

  def __init__(self, count):
    self.barrier = threading.Barrier(count, timeout=20)
    self.values, self.answered = {}, {}

  def of(self, number):
    calls = iter(range(9))

    def ask(value, answer):
      call = next(calls)
      self.values[call, number] = value
      self.barrier.wait()
      if number == 0:
        found = [x for (c, _), x in sorted(self.values.items()) if c == call]
        self.answered[call] = answer(found)
      self.barrier.wait()
      return self.answered[call]

    return ask


def check(*folders):
  asking = Asking(len(folders))
  with concurrent.futures.ThreadPoolExecutor(len(folders)) as threads:
    found = list(
      threads.map(
        lambda x: preflight.check_workdir(asking.of(x[0]), x[1], x[0] == 0),
        enumerate(map(str, folders)),
      )
    )
  assert len(set(found)) == 1
  return found[0]


def test_a_workdir_that_all_share(tmp_path):
  (tmp_path / 'other').symlink_to(tmp_path)  # mounted at another place
  assert check(tmp_path, tmp_path, tmp_path / 'other') == ''
  assert os.listdir(tmp_path) == ['other']


def test_a_workdir_of_another_host(tmp_path, monkeypatch):
  monkeypatch.setattr(preflight, 'SEEN', 0.3)
  for name in 'xy':
    (tmp_path / name).mkdir()
  text = check(tmp_path / 'x', tmp_path / 'y', tmp_path / 'x', tmp_path / 'z')
  assert text.startswith(f'--workdir={tmp_path}/x: on processes 1, 3 (')
  assert 'it is another folder than on process 0' in text
  assert 'one folder that they share' in text
  assert not any(os.listdir(tmp_path / name) for name in 'xy')


@pytest.mark.parametrize('number', [0, 1])
def test_a_workdir_that_one_cannot_write(tmp_path, monkeypatch, number):
  own = preflight.paths.write
  first = threading.Event()

  def write(path, data):
    # The first to write is process 0; the others wait for its file.
    if first.is_set() == bool(number):
      first.set()
      raise OSError(30, 'Read-only file system')
    first.set()
    own(path, data)

  monkeypatch.setattr(preflight.paths, 'write', write)
  text = check(tmp_path, tmp_path)
  assert f': on process {number} (' in text
  assert 'it takes no files (Read-only file system)' in text
  assert os.listdir(tmp_path) == []


def test_room_for_a_checkpoint(tmp_path, capsys):
  preflight.warn_of_space(str(tmp_path), 1000)
  assert not capsys.readouterr().err
  preflight.warn_of_space(str(tmp_path), 10**18)
  assert 'a checkpoint of this run takes 1e+09 GB.' in capsys.readouterr().err
  preflight.warn_of_space(str(tmp_path / 'none'), 10**18)
  assert not capsys.readouterr().err
