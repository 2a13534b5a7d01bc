"""Columns of prompted tasks in the papers' tables."""

import json

import pytest

from configs.papers import __main__ as papers
from configs.papers import asked, tiny
from input_pipeline.prompted import catalog

TABLES = {
  name: table
  for name, table in papers.TABLES.items()
  if any(column.asked for column in table.columns)
}
# What each kind of task gives, as test_prompted.py finds them.
METRICS = {
  'choice': {'accuracy', 'accuracy_none', 'accuracy_token'},
  'cloze': {'accuracy', 'perplexity', 'accuracy_filtered'},
  'answer': {'accuracy'},
  'text': {'word_perplexity', 'bits_per_byte'},
}


@pytest.mark.parametrize('table', TABLES.values(), ids=TABLES)
def test_columns_name_tasks_and_their_metrics(table):
  for column in table.columns:
    task = catalog.find(column.asked)
    assert column.metric in METRICS[task.kind]
    if column.shots:
      assert (catalog.TASKS[task.teacher] if task.teacher else task).shots


def test_commands():
  table = papers.find('llama.zero_shot')
  row = papers.find_row(table, '7B')
  zero, five = asked.asked(papers.TABLES, table, row)
  assert len(zero.tasks) == 9
  assert (five.tasks, five.shots) == (('mmlu',), 5)
  assert five.command('R', 'D') == (
    'python -m train.evaluate --from=checkpoints/llama-7b --tasks=mmlu'
    ' --task_folder=D --shots=5 --out=R/llama.zero_shot/7B/shots_5.json'
  )
  table = papers.find('palm.gsm8k')
  (votes,) = asked.asked(
    papers.TABLES, table, papers.find_row(table, '540B-votes')
  )
  assert votes.origin == 'palm.gsm8k/540B/pretrain'
  assert '--samples=40' in votes.words('R')
  small = tiny.shortened(votes)
  assert (small.shots, '--limit=4' in small.flags) == (1, True)


def test_our_numbers(tmp_path):
  place = tmp_path / 'gpt2.table3' / '117M'
  place.mkdir(parents=True)
  table = papers.find('gpt2.table3')
  found = {'wikitext2': {'word_perplexity': 30.41}, 'text8': {'loss': 1.0}}
  (place / 'shots_0.json').write_text(json.dumps({'tasks': found}))
  with pytest.raises(ValueError, match="no metric 'bits_per_byte' of text8"):
    papers.shown(table, '117M', str(tmp_path))
  del found['text8']
  (place / 'shots_0.json').write_text(json.dumps({'tasks': found}))
  lines = papers.shown(table, '117M', str(tmp_path)).splitlines()
  (ours,) = [x.split() for x in lines if '30.41' in x]
  assert ours == ['ours', *'----', '30.41', *'--']
  assert any('+1.00' in line for line in lines if 'difference' in line)
