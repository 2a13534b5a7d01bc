"""The papers' tables: their rows, their commands and our numbers in them."""

import functools
import re
import shlex
import sys
import types

import pytest
from absl import flags
from ml_collections import config_flags

from configs import phases
from configs.commands import command
from configs.papers import __main__ as papers
from configs.papers import asked, records, tiny
from input_pipeline.choices import LABELLED
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from input_pipeline.tasks import catalog
from input_pipeline.tasks.reading import NO_ANSWERS
from models.config import TransformerConfig
from models.pretrained.arrays import leaf_shapes
from tests.helpers.slices import devices_of
from train.finetuning import adoption
from train.learning.optimizer import USES
from train.learning.schedules import make_schedule
from train.learning.tuning import make_tuning
from train.runs import warm_start_arrays
from train.settings import HEADS, OWN, check_group, check_settings

WANTED = {
  't5': (1, 2, *range(4, 16)),
  'bert': (1, 5, 6, 7, 8),
  'roberta': (1, 2, 3, 4),
  'electra': (1, 2, 5),
}
ROWS = [
  pytest.param(table, row, id=f'{table.name}/{row.name}')
  for table in papers.TABLES.values()
  for row in table.rows
]
COLUMNS = {
  column.name + column.task: column
  for table in papers.TABLES.values()
  for column in table.columns
  if column.task
}

CHECKED = set()  # fine-tuning configs of other rows


@functools.cache
def load(config, overrides):
  """The config that a command reads, through the flags that it has."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', flag_values=values, lock_config=True
  )
  arguments = ['x', f'--config={command.find_config(config)}', *overrides]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', arguments)  # where it looks for overrides
    values(arguments)
  return values.config


def config_of(run):
  """A run's config, read back from its command."""
  _, _, module, first, *rest = shlex.split(run.command('runs'))
  assert module == ('train.finetune' if run.task else 'train')
  overrides = [word for word in rest if word.startswith('--config.')]
  return load(first.removeprefix('--config='), tuple(overrides))


def tuned(run, before):
  """A fine-tuning config with what its checkpoint and its task decide."""
  config = config_of(run).copy_and_resolve_references().unlock()
  family = before.model.family
  family = 'encoder' if family == 'electra' else family
  assert config.model.family == family
  keys = {*before.model} - ({*OWN, 'family'} - {'scan'})
  keys = {key for key in keys if not key.startswith('generator')}
  for key in keys:
    config.model[key] = before.model[key]
  for key in adoption.TOKENIZER:
    if not (config.data.framing and key in ('start', 'bos')):
      config.data[key] = before.data[key]
  tasks = [name.partition(':')[2] for name, _ in config.data.mixture]
  tasks = tasks or [config.data.source.partition(':')[2]]
  found = [catalog.find(name) for name in tasks]
  if config.data.objective == 'text_to_text':
    config.data.length = config.data.length or 512
    if family == 'encoder_decoder' and not config.data.target_length:
      config.data.target_length = max(task.lengths[1] for task in found)
  else:
    (task,) = found
    config.data.length = config.data.length or task.length
    config.data.objective = task.kind
    heads = HEADS[task.kind]
    if task.kind != 'classification' and config.model.head not in heads:
      config.model.head = heads[0]
    config.model.classes = 1 if task.kind == 'regression' else len(task.labels)
    if task.kind in ('choice', 'span'):
      config.model.classes = 0
    if config.model.head not in ('sequence', 'choice'):
      config.model.pooler, config.model.pooler_dropout = True, False
    if task.kind != 'regression':
      config.data.label_scale = 0.0
    if task.kind == 'choice':
      config.data.choices = 4
  config.train.steps = config.train.steps or 1000
  config.train.epochs = config.train.warmup_share = 0.0
  if config.schedule.name.startswith('linear'):
    config.schedule.warmup_steps = min(100, config.train.steps)
  config.eval.every = config.eval.every or 100
  config.checkpoint.every = config.checkpoint.every or 100
  return config.lock()


def check(config):
  check_settings(config, devices_of(config, 1))
  TransformerConfig(**config.model)
  batch_shapes(DataConfig(**config.data), config.model.family)
  check_group('optimizer', config.optimizer, USES)
  stages = make_tuning(config).stages
  plan = phases.of(config)
  make_schedule(config.schedule, config.train.steps, plan, stages)


def check_arrays(old, new):
  """A run may start from one of another task, whose head alone it leaves."""
  there, here = (
    {f'params/{name}': x for name, x in leaf_shapes(model).items()}
    for model in (TransformerConfig(**config.model) for config in (old, new))
  )
  head = warm_start_arrays.redrawn(there, here, old, new)
  assert head == {f'params/classes/dense/{x}' for x in ('bias', 'kernel')}
  there = {name: x for name, x in there.items() if name not in head}
  taken, *_, left = warm_start_arrays.compare(
    there, here, True, '', old.model, new.model
  )
  assert len(taken) == len(there)
  assert not left


def test_every_table_is_there():
  found = list(papers.TABLES)
  wanted = [
    *(f'{paper}.table{n}' for paper, tables in WANTED.items() for n in tables),
    *('bert.figure5', 'electra.weight_sharing', 'electra.figure3'),
    *('electra.training_algorithms', 'electra.figure2', 'gpt1.glue'),
    *('lamb.table1', 'ul2.table2', 'wang.pretraining', 'wang.adaptation'),
    *('gpt2.table2', 'chinchilla.tableA9', 'kaplan.shapes', 'gpt2.table3'),
    *('gpt3.zero_shot', 'llama.zero_shot', 'palm.gsm8k'),
  ]
  assert sorted(found) == sorted(wanted)
  assert len(papers.find('chinchilla.tableA9').rows) == 50


@pytest.mark.parametrize('table', papers.TABLES.values(), ids=papers.TABLES)
def test_every_row_and_number_is_printed(table):
  text = papers.shown(table)
  names = [row.name for row in table.rows]
  assert len(set(names)) == len(names)
  for row in table.rows:
    part = papers.shown(table, row.name).split('\n')
    assert '\n'.join(part[-3:]) in text
    assert len(records.cells(table, row)) == len(table.columns)
    numbers = [n for n in row.cells.split() if n != '-']
    printed = [w for line in part for w in line.split()[1:]]
    for number in numbers:
      from_memory = number.endswith('m') or table.memory
      assert number.removesuffix('m') + 'm' * from_memory in printed
    for column in table.columns:  # two spaces keep it from the one before
      assert re.search(
        rf'  {re.escape(column.name)}( |$)', '\n'.join(part), re.MULTILINE
      )
    made = [
      *records.runs(papers.TABLES, table, row),
      *asked.asked(papers.TABLES, table, row),
    ]
    assert bool(made) != ('It cannot be run.' in '\n'.join(part))


@pytest.mark.parametrize('size', ['published', 'tiny'])
@pytest.mark.parametrize(('table', 'row'), ROWS)
def test_the_configs_of_a_row_can_run(table, row, size):
  before, made = {}, [*records.runs(papers.TABLES, table, row)]
  # A run of several seeds is the origin of others by its first one.
  origins = {run.origin.removesuffix('/seed=0:best') for run in made}
  for run in made:
    if size == 'tiny':
      run = tiny.shrunk(run)
    if run.task:
      source = before[run.origin.removesuffix('/seed=0:best')]
      if run.folder in origins:
        before[run.folder] = tuned(run, source)
      if source.data.objective in LABELLED:
        check_arrays(source, tuned(run, source))
      alike = (
        *(run.config, str(run.keys), str(source.model)),
        *(source.data[key] for key in adoption.TOKENIZER),
      )
      if alike not in CHECKED:
        check(tuned(run, source))
        CHECKED.add(alike)
    else:
      before[run.folder] = config_of(run)
      check(before[run.folder])


@pytest.mark.parametrize('name', COLUMNS)
def test_a_column_names_a_metric_of_its_task(name):
  column = COLUMNS[name]
  if not column.metric:
    assert column.task in catalog.GROUPS
    return
  found, _, metric = column.metric.rpartition('/')
  task, _, split = found.partition('@')
  assert task == column.task
  task = catalog.find(task)
  assert (split or 'validation') in task.splits
  if metric.startswith('best_'):  # only where no answer has a score
    answer = types.SimpleNamespace(text='', null=1.0)
    assert metric in task.metrics([{'answers': NO_ANSWERS}], [answer])
  else:
    assert metric in task.metrics([], [])


def test_commands_name_the_runs_that_the_report_reads():
  table = papers.find('t5.table12')
  row = papers.find_row(table, 'leave-one-out')
  made = list(records.runs(papers.TABLES, table, row))
  assert len(made) == 14
  glue = made[0]
  assert glue.folder == 't5.table12/leave-one-out/pretrain/glue'
  assert all('glue/cola' not in name for name, _ in glue.keys['data.mixture'])
  assert ('task:super_glue/rte', 2490) in glue.keys['data.mixture']
  assert ('task:super_glue/rte', 1245) in made[1].keys['data.mixture']
  assert made[7].origin == glue.folder
  text = made[0].command('R', '/data of tasks')
  assert "'--config.data.task_folder=/data of tasks'" in text


def test_pretraining_that_goes_on_from_another():
  """Wang et al. 2022: a causal decoder learns to fill in spans."""
  table = papers.find('wang.adaptation')
  row = papers.find_row(table, 'CD-FLM-ND-MLM')
  first, second = records.runs(papers.TABLES, table, row)
  assert first.folder == second.origin == 'wang.pretraining/CD-FLM/pretrain'
  assert second.folder == 'wang.adaptation/CD-FLM-ND-MLM/pretrain'
  words = second.words('R')
  assert words[4:6] == [f'--init_from=R/{first.folder}', '--init_state']
  assert not any('init' in word for word in first.words('R'))
  assert records.begun_from(papers.TABLES, table, row) == (
    'wang.adaptation/CD-FLM-ND-MLM'
  )
  # It needs more steps at the tiny size too.
  steps = [tiny.shrunk(x).keys['train.steps'] for x in (first, second)]
  assert steps[1] > steps[0]
  # 168B and 219B tokens.
  rows = {2048 * 626 * x.keys['train.steps'] // 10**9 for x in (first, second)}
  assert rows == {168, 219}
  # A run on a task needs both.
  tuned = second._replace(task='glue/rte', folder='T', origin=second.folder)
  found = records.limited([first, second, tuned], ['glue/rte'])
  assert found == [first, second, tuned]


@pytest.mark.parametrize(
  ('table', 'row'),
  [x for x in ROWS if x.values[1].start and x.values[1].config],
)
def test_pretraining_goes_on_with_the_same_parameters(table, row):
  *_, first, second = records.runs(papers.TABLES, table, row)
  shapes = [
    leaf_shapes(TransformerConfig(**config_of(run).model))
    for run in (first, second)
  ]
  assert shapes[0] == shapes[1]


def test_runs_on_some_tasks_alone():
  def of(table, row, *tasks, **more):
    table = papers.find(table)
    made = records.runs(papers.TABLES, table, papers.find_row(table, row))
    return records.limited(made, tasks, **more)

  first, second = of('t5.table1', 'baseline', 'glue/rte', 'glue/mrpc')
  assert (first.task, second.task) == ('', 'glue')
  assert second.keys['data.mixture'] == (
    ('task:glue/mrpc', 3668), ('task:glue/rte', 2490),
  )  # fmt: skip
  _, whole = of('t5.table1', 'baseline', 'glue')
  assert 'data.mixture' not in whole.keys
  (multi,) = of('t5.table11', 'equal', 'squad', 'glue/rte')
  assert len(multi.members) > 20  # the run is the row's
  (multi,) = of('t5.table11', 'equal', 'squad', 'glue/rte', pretraining=True)
  assert multi.keys['data.mixture'] == (
    ('tfds:c4/en', 0), ('task:glue/rte', 1245), ('task:squad/v1.1', 0),
  )  # fmt: skip
  assert [x.task for x in of('bert.table5', 'base', 'glue')[1:]] == [
    'glue/mnli', 'glue/qnli', 'glue/mrpc', 'glue/sst2',
  ]  # fmt: skip
  first, second = of('t5.table12', 'leave-one-out', 'squad')
  assert first.folder == 't5.table12/leave-one-out/pretrain/squad/v1.1'
  assert second.origin == first.folder
  with pytest.raises(ValueError, match="'glue/rt' is unknown. Did you mean"):
    of('bert.table1', 'BERT-base', 'glue/rt')
  with pytest.raises(ValueError, match='glue/rte starts from .* glue/mnli'):
    of('electra.table2', 'RoBERTa-500K', 'glue/rte')


def test_the_tiny_size_of_a_row():
  """Whole in kind: what the row changes stays, but sizes and steps."""
  table = papers.find('t5.table2')
  row = papers.find_row(table, 'prefix-decoder-denoising')
  made = [*map(tiny.shrunk, records.runs(papers.TABLES, table, row))]
  first = made[0]
  assert first.config == 'configs/t5.py:size=tiny,recipe=baseline'
  assert first.keys['model.family'] == 'decoder'
  assert first.keys['model.prefix'] is True
  assert first.keys['model.decoder_layers'] == 2
  assert first.keys['data.length'] == (512 + 192) // 4
  assert made[1].config == 'configs/finetune/t5.py:task=glue,size=tiny'
  table = papers.find('bert.table1')
  row = papers.find_row(table, 'BERT-large')
  run = tiny.shrunk([*records.runs(papers.TABLES, table, row)][1])
  assert run.flags == ('--seeds=2',)
  table = papers.find('t5.table11')
  row = papers.find_row(table, 'K=2^16')
  (run,) = records.runs(papers.TABLES, table, row)
  run = tiny.shrunk(run, 'text:a.txt')
  assert run.keys['data.mixture'][0] == ('text:a.txt', 0)
  assert run.keys['data.rate_cap'] == 2**16


def test_race_has_its_own_numbers_in_roberta():
  """Liu et al. 2019, table 10."""
  for task, rate, batch, epochs in (
    ('race/all', 1e-5, 16, 4.0),
    ('race/high', 1e-5, 16, 4.0),
    ('squad/v2.0', 1.5e-5, 48, 2.0),
  ):
    config = load(f'configs/finetune/roberta.py:task={task}', ())
    found = config.schedule.learning_rate, config.data.batch
    assert (*found, config.train.epochs) == (rate, batch, epochs)
    assert config.train.warmup_share == 0.06
