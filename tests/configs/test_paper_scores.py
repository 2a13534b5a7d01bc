"""Our scores in the papers' tables, read from the files of runs."""

import json
import math
import os
import statistics

import pytest

from configs.papers import __main__ as papers
from configs.papers import records, scores
from input_pipeline.tasks import catalog


def test_scores_are_the_means_that_tasks_name():
  found = {
    name: task.averaged for name, task in catalog.TASKS.items() if task.averaged
  }
  assert found == scores.AVERAGED
  helpers = [name for name, task in catalog.TASKS.items() if not task.counted]
  assert tuple(helpers) == scores.HELPERS
  # ROUGE-2 is the one number of a summary (Raffel et al. 2020, table 1).
  assert found['cnn_dailymail'] == found['xsum'] == ('rouge2',)


def write(folder, rows, steps=20, best='score'):
  os.makedirs(folder)
  config = {'train': {'steps': steps}, 'checkpoint': {'best': best}}
  with open(os.path.join(folder, 'config.json'), 'w') as file:
    json.dump(config, file)
  with open(os.path.join(folder, 'metrics.jsonl'), 'w') as file:
    for step, row in rows:
      row = {f'eval/{key}': value for key, value in row.items()}
      file.write(json.dumps({'step': step, **row}) + '\n')


def ours(name, row, folder):
  table = papers.find(name)
  found = scores.ours(
    papers.TABLES, table, papers.find_row(table, row), str(folder)
  )
  return dict(zip([c.name for c in table.columns], found, strict=True))


def test_the_mean_over_seeds_of_the_best_point_of_a_grid(tmp_path):
  place = tmp_path / 'bert.table1' / 'BERT-base' / 'glue' / 'rte'
  for rate, seed, value in (
    *(('2e-5', 0, 60.0), ('2e-5', 1, 64.0), ('5e-5', 0, 61.0)),
    ('5e-5', 1, 59.0),
  ):
    rows = [(10, {'score': 99.0, 'glue/rte/accuracy': 99.0})]  # not the last
    rows += [(20, {'score': value, 'glue/rte/accuracy': value})]
    name = f'learning_rate={rate},seed={seed}'
    write(place / name, rows, best='')
  write(place / 'learning_rate=2e-5,seed=2', [], best='')  # has not ended
  found = ours('bert.table1', 'BERT-base', tmp_path)
  assert found['RTE'][:4] == (62.0, pytest.approx(8**0.5), 2, 1)
  assert found['RTE'].numbers == [60.0, 64.0]
  assert found['CoLA'] == scores.Ours(None)
  assert found['average'] == scores.Ours(None)
  table = papers.find('bert.table1')
  text = papers.shown(table, 'BERT-base', str(tmp_path))
  (difference,) = [line for line in text.split('\n') if '-4.40' in line]
  assert difference.split() == ['difference', '-', '-4.40', '-']
  assert '2 of 3' in text


def test_an_average_of_columns(tmp_path):
  place = tmp_path / 'bert.table1' / 'BERT-large'
  published = papers.find_row(papers.find('bert.table1'), 'BERT-large')
  numbers = [float(x) for x in published.cells.split()]
  rows = {}
  for column, number in zip(
    papers.find('bert.table1').columns, numbers, strict=True
  ):
    if column.task:
      rows.setdefault(column.task, {'score': 1.0})[column.metric] = number
  for task, row in rows.items():
    row |= {f'{task}/f1': row.get(f'{task}/f1', 0.0)}
    row |= {f'{task}/accuracy': 0.0, f'{task}/pearson': 0.0} | row
    write(place / task, [(20, row)], best='')
  found = ours('bert.table1', 'BERT-large', tmp_path)
  assert found['MNLI-m'].value == 86.7
  assert found['average'].value == pytest.approx(numbers[-1], abs=0.05)
  assert found['average'].spread is None


def test_the_spread_of_an_average(tmp_path):
  """That of the averages of the first runs, of the second runs, ..."""
  place = tmp_path / 'electra.table1' / 'ELECTRA-small'
  table = papers.find('electra.table1')
  numbers = {'seed=0': 80.0, 'seed=1': 81.0, 'seed=2': 85.0}
  for n, task in enumerate(table.tasks):
    for seed, value in numbers.items():
      value += n  # each task has a level of its own
      names = {c.metric for c in table.columns if c.task == task} - {''}
      names |= {f'{task}/{x}' for x in scores.AVERAGED.get(task, ('accuracy',))}
      row = dict.fromkeys(names, value) | {'score': value}
      write(place / task / seed, [(20, row)], best='')
  found = ours('electra.table1', 'ELECTRA-small', tmp_path)
  average = found['average']
  assert average.runs == 3
  assert average.spread == pytest.approx(statistics.stdev(numbers.values()))


def test_each_task_of_a_mixture_takes_its_own_best_evaluation(tmp_path):
  rows = [
    (10, {
      'score': 70.0, 'glue/cola/matthews': 40.0, 'glue/mrpc/f1': 90.0,
      'glue/mrpc/accuracy': 80.0, 'glue/mrpc/invalid': 3,
      'glue/mnli@validation_matched/accuracy': 50.0,
      'glue/mnli@validation_mismatched/accuracy': 60.0,
    }),
    (20, {
      'score': 60.0, 'glue/cola/matthews': 45.0, 'glue/mrpc/f1': 70.0,
      'glue/mrpc/accuracy': 70.0, 'glue/mrpc/invalid': 900,
      'glue/mnli@validation_matched/accuracy': 52.0,
      'glue/mnli@validation_mismatched/accuracy': 54.0,
    }),
  ]  # fmt: skip
  write(tmp_path / 't5.table1' / 'baseline' / 'glue', rows)
  expected = (45 + 85 + 55) / 3
  found = ours('t5.table1', 'baseline', tmp_path)
  assert found['GLUE'].value == pytest.approx(expected)
  # The same runs are the baseline of other tables.
  found = ours('t5.table13', 'baseline', tmp_path)
  assert found['GLUE'].value == pytest.approx(expected)
  # A run that is not fine-tuned has the tasks' scores itself, without DPR.
  rows[1][1].update({
    'super_glue/rte/accuracy': 60.0, 'super_glue/wic/accuracy': 70.0,
    'super_glue/dpr/accuracy': 0.0, 'cnn_dailymail/rouge2': 1.0,
    'squad/v1.1/exact_match': 2.0, 'wmt/en_de/bleu': 3.0,
    'wmt/en_fr/bleu': 4.0, 'wmt/en_ro/bleu': 5.0,
  })  # fmt: skip
  rows[0][1].update(rows[1][1] | rows[0][1])
  write(tmp_path / 't5.table11' / 'equal' / 'pretrain', rows, best='')
  found = ours('t5.table11', 'equal', tmp_path)
  assert found['GLUE'].value == pytest.approx(expected)
  assert found['SGLUE'].value == pytest.approx(65.0)
  assert found['EnRo'].value == 5.0


def test_the_perplexity_of_pretraining(tmp_path):
  """e to the masked tokens' loss, of the run that the row starts from."""
  loss = {'loss': 1.5, 'mlm_loss': 1.2, 'perplexity': math.exp(1.2)}
  rows = [(10, {'loss': 9.0, 'perplexity': math.exp(9.0)}), (20, loss)]
  write(tmp_path / 'bert.table1' / 'BERT-base' / 'pretrain', rows, best='')
  for row, value in (('12-768-12', math.exp(1.2)), ('3-768-12', None)):
    assert ours('bert.table6', row, tmp_path)['perplexity'].value == value
  write(tmp_path / 'bert.table6' / '3-768-12' / 'pretrain', rows[:1], best='')
  found = ours('bert.table6', '3-768-12', tmp_path)['perplexity']
  assert (found.value, found.left) == (None, 1)
  loss = {'loss': 1.3, 'perplexity': math.exp(1.3)}
  place = tmp_path / 'roberta.table3' / '2K' / 'pretrain'
  write(place, [(20, loss)], best='')
  found = ours('roberta.table3', '2K', tmp_path)['perplexity']
  assert found.value == math.exp(1.3)


def test_a_column_with_a_run_of_its_own(tmp_path):
  """The named entities of table 8, by fine-tuning and by features."""
  place = tmp_path / 'bert.table8' / '80-10-10'
  for name, f1 in (('conll2003', 95.0), ('NER-features', 94.0)):
    write(place / name, [(20, {'score': f1, 'conll2003/f1': f1})], best='')
  found = ours('bert.table8', '80-10-10', tmp_path)
  assert (found['NER'].value, found['NER-features'].value) == (95.0, 94.0)
  table = papers.find('bert.table8')
  row = papers.find_row(table, '80-10-10')
  made = {
    x.folder.rpartition('/')[2]: x
    for x in records.runs(papers.TABLES, table, row)
  }
  run = made['NER-features']
  assert (run.task, run.origin) == ('conll2003', made['pretrain'].folder)
  assert run.keys['model.features'] == 'concat_last_four'
  assert 'model.features' not in made['conll2003'].keys


def test_supervised_pretraining_is_on_three_tasks():
  """CNN/DM + en-de + en-fr, proportional to their examples."""
  table = papers.find('t5.table12')
  row = papers.find_row(table, 'supervised-multi-task')
  assert [x for x, _ in row.keys['data.mixture']] == [
    'task:cnn_dailymail', 'task:wmt/en_de', 'task:wmt/en_fr',
  ]  # fmt: skip
  assert row.keys['data.rates'] == 'examples'
  assert 'data.rate_cap' not in row.keys


def test_files_of_runs_that_cannot_be_read(tmp_path):
  place = tmp_path / 'bert.table1' / 'BERT-base' / 'glue' / 'rte'
  write(place, [(20, {'score': 1.0, 'glue/cola/matthews': 1.0})])
  with pytest.raises(ValueError, match=r"no metric 'eval/glue/rte"):
    ours('bert.table1', 'BERT-base', tmp_path)
  (place / 'metrics.jsonl').write_text('{"step": 1}\n{"st\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2: '):
    ours('bert.table1', 'BERT-base', tmp_path)
