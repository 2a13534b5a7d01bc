"""The demonstration of pretraining: its commands, difference, table, record."""

import json
import math
import shlex

import pytest
from scipy import stats

from benchmarks import finetuning
from tests.configs.test_papers import load
from tests.helpers import REPOSITORY
from train.finetuning import adoption
from train.setup import set_up

DOCUMENT = REPOSITORY / 'docs' / 'finetuning.md'


@pytest.fixture(scope='module')
def glue(tmp_path_factory):
  """A folder of GLUE with a few rows of SST-2."""
  folder = tmp_path_factory.mktemp('glue')
  (folder / 'SST-2').mkdir()
  rows = ['sentence\tlabel', *['fine\t1', 'dull\t0'] * 2000]
  for name in 'train.tsv', 'dev.tsv':
    (folder / 'SST-2' / name).write_text('\n'.join(rows) + '\n')
  return str(folder)


def test_every_command_has_a_config_that_can_run(glue):
  steps = finetuning.commands(glue, 'W', 'docs', weights='MINILM')
  counts = {}
  for name, (module, *args) in steps.items():
    if module == 'train.evaluate':
      continue
    overrides = [arg for arg in args if arg.startswith('--config.')]
    config = load(args[0].removeprefix('--config='), tuple(overrides))
    if module == 'train.finetune':
      config = adoption.resolve(config)
    set_up(config)  # it checks the config
    counts[name] = config.train.steps
  # Three epochs of batches of 32 of the first examples.
  assert counts['bert-scratch'] == math.ceil(3 * 3000 / 32)
  assert counts['t5'] == finetuning.PRETRAINING['t5']['train.steps']


def test_the_two_sides_differ_in_their_start_alone():
  steps = finetuning.commands('GLUE', 'W', 'docs', weights='MINILM')
  for name in finetuning.PRETRAINING:
    ours, other = steps[f'{name}-pretrained'], steps[f'{name}-scratch']
    assert set(ours) ^ set(other) == {
      '--scratch',
      f'--workdir=W/{name}-pretrained',
      f'--workdir=W/{name}-scratch',
    }
  assert 'minilm-scratch' not in steps
  assert '--from=MINILM' in steps['minilm-pretrained']


def test_the_command_of_lora_trains_the_factors_of_two_matrices(glue):
  commands = DOCUMENT.read_text(encoding='utf-8').split('```sh\n')[1:]
  (text,) = (x.split('```')[0] for x in commands if 'tuning.train=lora' in x)
  words = shlex.split(text.replace('glue/rte', 'glue/sst2,size=tiny'))
  overrides = [x for x in words if x.startswith('--config.')]
  overrides.append(f'--config.data.task_folder={glue}')
  (name,) = (x.partition('=')[2] for x in words if x.startswith('--config='))
  setup = set_up(adoption.resolve(load(name, tuple(overrides))))
  factors = setup.tuning.trained(setup.state.params)['lora']['encoder']
  assert list(factors['layers']['attention']) == ['query', 'value']
  assert factors['layers']['attention']['query']['a'].shape[-1] == 8


def test_the_document_has_these_commands():
  """All but MiniLM's are in it, with the names of its folders."""
  text = DOCUMENT.read_text().replace('\\\n', '')
  found = {
    tuple(shlex.split(line)[2:])
    for line in text.split('\n')
    if line.startswith('python -m ')
  }
  steps = finetuning.commands('$GLUE', '$W', '$TEXT', weights='$MINILM')
  missing = [name for name, args in steps.items() if tuple(args) not in found]
  assert not missing, missing


@pytest.mark.parametrize(
  ('pretrained', 'scratch', 'verdict'),
  [
    ([70.0, 71, 72], [60.0, 61, 65], 'helped'),
    ([60.0, 61, 65], [70.0, 71, 72], 'hurt'),
    ([60.0, 61, 65], [61.0, 63, 66], 'within chance'),
  ],
)
def test_the_difference_is_welchs(pretrained, scratch, verdict):
  """By hand: mean, standard error and degrees of freedom of two samples."""
  found = finetuning.difference(pretrained, scratch)
  means = [sum(side) / 3 for side in (pretrained, scratch)]
  errors = [
    sum((x - mean) ** 2 for x in side) / 2 / 3
    for side, mean in zip((pretrained, scratch), means, strict=True)
  ]
  freedom = sum(errors) ** 2 / sum(error**2 / 2 for error in errors)
  reach = stats.t.ppf(0.975, freedom) * math.sqrt(sum(errors))
  assert found['mean'] == pytest.approx(means[0] - means[1])
  assert found['low'] == pytest.approx(found['mean'] - reach)
  assert found['high'] == pytest.approx(found['mean'] + reach)
  assert found['verdict'] == verdict


def test_a_step_that_has_ended_is_not_run_again(tmp_path, capfd):
  first = finetuning.run('step', ['platform'], tmp_path)
  assert first['command'] == 'python -m platform'
  assert first['starts'] == 1
  printed = capfd.readouterr().out
  assert first['output'] == printed.strip().split('\n')[-1]
  assert finetuning.run('step', ['platform'], tmp_path) == first
  assert not capfd.readouterr().out
  with pytest.raises(SystemExit, match='is of another command'):
    finetuning.run('step', ['platform', 'terse'], tmp_path)
  with pytest.raises(SystemExit, match='other has not ended'):
    finetuning.run('other', ['no_such_module'], tmp_path)
  assert finetuning.run('other', ['platform'], tmp_path)['starts'] == 2


def write_runs(folder, name, scores):
  """What the fine-tuning of a model leaves, and its records."""
  record = {'seconds': 9.0, 'cpu_seconds': 8.0, 'starts': 1, 'load': 1.0}
  records = {f'{name}-again': {'output': json.dumps({'score': scores[0][0]})}}
  for how, reached in zip(finetuning.HOWS, scores, strict=False):
    (folder / f'{name}-{how}').mkdir()
    row = dict.fromkeys(finetuning.NUMBERS, 1.5)
    row |= {'group': '', 'runs': len(reached), 'scores': reached}
    (folder / f'{name}-{how}' / 'scores.json').write_text(json.dumps([row]))
    records[f'{name}-{how}'] = record
  return records


def test_the_results_and_their_table(tmp_path):
  records = write_runs(
    tmp_path, 'bert', ([70.0, 71.0, 72.0], [60.0, 61.0, 65.0])
  )
  records['bert'] = records['bert-scratch']
  (tmp_path / 'bert').mkdir()
  rows = [
    {'step': 0, 'eval/loss': 9.0},
    {'step': 1},
    {'step': 2, 'eval/loss': 6.0},
  ]
  (tmp_path / 'bert' / 'metrics.jsonl').write_text(
    '\n'.join(map(json.dumps, rows)) + '\n'
  )
  records |= write_runs(tmp_path, 'minilm', ([88.0],))
  found = finetuning.results(tmp_path, records)
  assert found['bert']['pretraining']['last'] == 6.0
  assert found['bert']['difference']['verdict'] == 'helped'
  assert 'difference' not in found['minilm']
  lines = finetuning.table(found, 50.92).split('\n')
  assert '50.92' in lines[0]
  numbers = '1.50 | 1.50 | 1.50 | 1.50 | 9 | 8 |'
  assert lines[4:8] == [
    f'| bert | pretrained | 3,000 | 3 | {numbers}',
    f'| bert | scratch | 3,000 | 3 | {numbers}',
    f'| minilm | pretrained | 2,000 | 1 | {numbers}',
    '',
  ]
  assert '9.00 to 6.00' in lines[8]
  assert 'mean by +9.00' in lines[9]
  assert lines[9].endswith('helped.')
  records['minilm-again']['output'] = json.dumps({'score': 87.0})
  with pytest.raises(SystemExit, match='where the run of seed 0 of minilm'):
    finetuning.results(tmp_path, records)
