"""Every config builds; a mistake in one is told before anything runs."""

import dataclasses
import glob
import json
import math
import os
import re
import subprocess
import sys
import tomllib

import jax
import pytest
from ml_collections import ConfigDict

from configs import ablations, bert, command, common, gpt2, llama, t5, tree, ul2
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from models.build import build
from models.config import TransformerConfig
from train import __main__ as train_command
from train.learning.optimizer import make_optimizer, state_axes
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params
from train.parallel.sharding import make_mesh
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
    ('palm:540b', 780),  # 3
    ('rwkv', 332),  # the Pile once
    ('t5:11b', 1049),  # 3.7: 1M steps of 2**11 rows of 512
    ('ul2', 1049),  # the model card: 1T
    ('bert', 131),  # A.2: 1M steps of 256 rows of 512
    ('roberta', 2097),  # 500,000 steps of 8192
  ],
)
def test_published_tokens(system, billions):
  config = tree.config_of(system)
  data, steps = config.data, config.train.steps
  tokens = data.batch * data.length * steps
  assert tokens == pytest.approx(billions * 1e9, rel=0.001)


def test_base_holds_every_key():
  """So that a flag exists for each field, and none for anything else."""
  base = common.base()
  for group, described in (('model', TransformerConfig), ('data', DataConfig)):
    fields = {field.name for field in dataclasses.fields(described)}
    assert set(base[group]) == fields
  assert all(meaning for _, meaning in common.KEYS.values())
  with pytest.raises(AttributeError, match='bach'):
    t5.get_config().data.bach = 3


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('smal', "size 'smal' is unknown. Did you mean 'small'?"),
    ('size=12b', "Did you mean '11b'?"),
    ('version=v1.1', "version 'v1.1' is unknown. Did you mean '1.1'?"),
    ('base,versoin=1.1', "'versoin' is unknown. Did you mean 'version'?"),
    ('recipe=xyzzy', 'There are: final, baseline.'),
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
  *(((math.nan, 16, 0),), ((True, 16, 0),)),
)


@pytest.mark.parametrize('value', ODD, ids=str)
@pytest.mark.parametrize(
  ('paper', 'key'),
  [
    (t5, 'data.curriculum'),
    (gpt2, 'data.curriculum'),  # learned positions look at its lengths
    (bert, 'data.mixture'),
    (ul2, 'data.denoisers'),
    (llama, 'model.rope_scaling'),
  ],
)
def test_tuples_of_other_things(paper, key, value):
  """Each is refused by name, whatever it holds."""
  config = paper.get_config('tiny')
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=re.escape(key)):
    TransformerConfig(**config.model) and check_settings(config, devices=8)


def test_rows_end_before_learned_positions_do():
  """Those of the encoder and those of the decoder, in every phase."""
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
  config.data.curriculum = ((0.5, length + 4, 0),)
  with pytest.raises(ValueError, match=f'curriculum has rows of {length + 4}'):
    check_settings(config, devices=8)


def test_heads_and_objectives_that_do_not_meet():
  config = bert.get_config('tiny')
  check_settings(config, 1)
  config.model.head = 'mlm'
  with pytest.raises(ValueError, match="'sentence_pairs' says .*not 'mlm'"):
    check_settings(config, 1)
  config.model.head, config.data.objective = 'mlm_nsp', 'doc_sentences'
  config.data.short_share = 0.0
  with pytest.raises(ValueError, match="not 'doc_sentences'"):
    check_settings(config, 1)


def test_a_key_that_is_not_set():
  config = common.base()
  with pytest.raises(ValueError, match=r'model\.\w+ is not set.*--config.mod'):
    check_settings(config, devices=8)


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
  (['--config={}/none.py', W], 'has no function get_config'),
  ([W, '--config.seed=1'], 'give --config=FILE.py as well'),
  ([W], 'holds no run yet (no config.json): give --config'),
  ([C, '--workdir={}/file'], 'no files can be written there (File exists)'),
  ([C, W, '--process=1'], '--processes and --process need --coordinator'),
  ([C, W, '--coordinator=here'], 'must be HOST:PORT, or auto'),
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
  print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope='module')
def told(tmp_path_factory):
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
def test_mistakes_of_the_command_line(told, number):
  code, stderr = told[0][number]
  message = MISTAKES[number][1]
  assert code == '1'
  if message is None:  # no mistake of the user's: it keeps its traceback
    assert 'Traceback' in stderr
    assert 'broken.py", line 2' in stderr
    assert 'ZeroDivisionError' in stderr
    return
  last = stderr.strip().split('\n')[-1]
  assert last.startswith('Error: ')
  assert message in last
  assert 'Traceback' not in stderr
  assert not (told[1] / 'w').exists()


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help(capsys, monkeypatch, flag):
  """What a program does, and every key with its value and meaning."""
  monkeypatch.setitem(sys.modules, '__main__', train_command)
  with pytest.raises(SystemExit) as ended:
    command._parse(['train', flag, '--config=configs/bert.py:base'], '')
  assert ended.value.code == 0
  shown = capsys.readouterr().out
  assert shown.startswith(train_command.__doc__.strip())
  lines = re.findall(r'(?m)^  ([a-z_0-9.]+)=(\S.*?)  (.+)$', shown)
  found = {key: (value, meaning) for key, value, meaning in lines}
  assert {key: meaning for key, (_, meaning) in found.items()} == {
    key: meaning for key, (_, meaning) in common.KEYS.items()
  }
  assert found['model.embed_dim'][0] == '768'
  assert found['optimizer.name'][0] == "'adamw'"
  assert found['optimizer.clip_threshold'][0] == 'float'


STOP = 'import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n'
RUN = f'from configs import command\ncommand.run(lambda: exec({STOP!r}))'


@pytest.mark.parametrize('moment', ['optax', 'config', 'main'])
def test_ctrl_c_before_the_first_step(tmp_path, moment):
  """While it imports, reads flags or runs: a line, and the status 130."""
  (tmp_path / f'{moment}.py').write_text(STOP)
  command = ['-m', 'train', f'--config={tmp_path}/config.py', '--workdir=w']
  done = subprocess.run(
    [sys.executable, *(['-c', RUN] if moment == 'main' else command)],
    env=os.environ | {'PYTHONPATH': f'{tmp_path}:{os.getcwd()}'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 130
  assert done.stderr == 'Interrupted.\n'


def test_a_terminal_that_cannot_show_a_sign():
  done = subprocess.run(
    [sys.executable, '-c', PRINTS],
    env=os.environ | {'PYTHONIOENCODING': 'ascii'},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, 'caf? ?\n'), done.stderr


PRINTS = """
from configs import command
command.run(lambda: print('caf\u00e9 \u2581'))
"""


def test_a_folder_of_the_users_own(tmp_path):
  """Named as one of ours, as long as it is no package, it hides nothing."""
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


def test_a_summary_shows_what_differs_first():
  """Every key that has a value, once, in lines that fit."""
  config = t5.get_config('tiny').copy_and_resolve_references().unlock()
  config.seed = 3
  config.data.curriculum = ((0.5, 64, 0),)
  config.optimizer.multipliers.decay = 2.0
  text = command.summary(config, 80)
  lines = text.splitlines()
  assert max(map(len, lines)) <= 80
  assert len(lines) < 50
  first, rest = text.split("The base's values:\n")
  assert '  seed=3\n' in first
  assert 'curriculum=((0.5, 64, 0),)' in first
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


@pytest.mark.parametrize('module', ['configs.tree', 'benchmarks.recipes'])
def test_help_of_programs_without_a_config(module):
  done = subprocess.run(
    [sys.executable, '-m', module, '--help'], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('\n  --') > 1  # its flags
  assert '--config.' not in done.stdout


def test_every_program_is_started_alike():
  """So that --help, Ctrl-C and closed streams are the same everywhere."""
  for path in glob.glob('[a-z]*/*.py'):
    with open(path) as file:
      used = '  app' + '.run' in file.read()
    assert used == (path == 'configs/command.py'), path


IN_A_CALLBACK = """
import gc, os, signal, sys, time
from configs import startup

startup.begin()
again = []

def collected(phase, info):
  if not again:
    again.append(phase)
    os.kill(os.getpid(), signal.SIGINT)
    [None for _ in range(100)]

gc.callbacks.append(collected)
gc.collect()
for _ in range(1000):
  time.sleep(0.01)
"""


def test_ctrl_c_while_the_collector_works():
  """Python prints what a callback raises, and goes on."""
  done = subprocess.run(
    [sys.executable, '-c', IN_A_CALLBACK], capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (130, 'Interrupted.\n')


@pytest.mark.parametrize(
  ('code', 'status'),
  [
    ('command.run(lambda: print(sys.stdout.isatty(), file=sys.stderr))', 0),
    ('interrupt.end()', 130),
  ],
)
def test_streams_that_are_closed(code, status):
  """As of a job that nobody watches: `python -m train ... >&- 2>&-`."""
  code = f'import sys\nfrom configs import command, interrupt\n{code}'
  done = subprocess.run(
    ['sh', '-c', 'exec "$0" -c "$1" >&- 2>&-', sys.executable, code]
  )
  assert done.returncode == status
