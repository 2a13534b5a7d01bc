"""Seeds of one config, what differs, and which numbers compare."""

import json

import pytest

from tests.helpers.workdirs import make
from train.comparing import groups, results, runs
from train.comparing.cells import Links


def read(folder):
  return runs.read_all(runs.find([str(folder)]))


def test_runs_of_one_config_are_a_group(tmp_path):
  for seed in range(2):
    for rate in (0.1, 0.01):
      every = 10 if seed else 20  # changes no number
      make(
        tmp_path / f'{rate},{seed}', seed=seed, schedule__learning_rate=rate,
        checkpoint__every=every,
      )  # fmt: skip
  found = groups.grouped(read(tmp_path))
  assert [group.name for group in found] == [
    'learning_rate=0.01',
    'learning_rate=0.1',
  ]
  assert [[x.name for x in group.runs] for group in found] == [
    ['0.01,0', '0.01,1'],
    ['0.1,0', '0.1,1'],
  ]
  differing = dict(groups.differing([x for y in found for x in y.runs]))
  assert differing == {
    'checkpoint.every': [20, 10, 20, 10],
    'schedule.learning_rate': [0.01, 0.01, 0.1, 0.1],
    'seed': [0, 1, 0, 1],
  }


def test_the_parameters_source_separates_groups(tmp_path):
  make(tmp_path / 'a')
  other = make(tmp_path / 'b', seed=1)
  entries = json.loads((other / 'history.json').read_text())
  entries[0]['from'] = {'workdir': '/runs/first', 'step': 7}
  (other / 'history.json').write_text(json.dumps(entries))
  found = groups.grouped(read(tmp_path))
  assert [x.name for x in found] == [
    'started from=none',
    'started from=/runs/first, step 7',
  ]


def test_a_group_counts_at_a_step_that_all_seeds_have(tmp_path):
  make(tmp_path / '0')
  make(tmp_path / '1', seed=1, until=120)
  (group,) = groups.grouped(read(tmp_path))
  assert group.step == 100
  assert not group.complete
  values = group.values('eval/loss')
  assert [(run.name, step) for run, step, _ in values] == [
    ('0', 100),
    ('1', 100),
  ]
  assert values[0][2] == group.runs[0].at(100, 'eval/loss')


def test_other_tokenizers_compare_in_bits_per_byte(tmp_path):
  make(tmp_path / 'a')
  make(tmp_path / 'b', tokenizer='b' * 64)
  names, notes = groups.measured(read(tmp_path))
  assert names == ['eval/bits_per_byte']
  assert 'different tokenizers' in notes[0]


def test_one_tokenizer_compares_in_losses(tmp_path):
  make(tmp_path / 'a')
  make(tmp_path / 'b', lift=1.0)
  names, notes = groups.measured(read(tmp_path))
  assert names[:2] == ['eval/loss', 'eval/bits_per_byte']
  assert not notes


def test_other_tokenizers_without_bits_are_refused(tmp_path):
  make(tmp_path / 'a')
  make(tmp_path / 'b', tokenizer='b' * 64, bits=False)
  with pytest.raises(groups.NotComparableError) as error:
    groups.measured(read(tmp_path))
  text = str(error.value)
  assert 'sha256 aaaaaaaaaaaa: a' in text
  assert 'sha256 bbbbbbbbbbbb: b' in text
  assert 'these have none: b.' in text
  assert 'Make a report of each' in text


def test_vocabularies_are_compared_before_the_first_checkpoint(tmp_path):
  make(tmp_path / 'a')
  make(tmp_path / 'b', tokenizer='', until=50)
  assert not groups.differing_tokenizers(read(tmp_path))
  make(tmp_path / 'c', tokenizer='', until=50, model__vocab_size=512)
  assert groups.differing_tokenizers(read(tmp_path))


def test_other_objectives_are_not_tested_against_each_other(tmp_path):
  for seed in range(2):
    make(tmp_path / f'a{seed}', seed=seed)
    make(tmp_path / f'b{seed}', seed=seed, lift=1.0, data__length=64)
  found = groups.grouped(read(tmp_path))
  (note,) = groups.task_notes(found)
  assert 'data.length' in note
  table = results.of_tests(found, 'eval/loss')
  last = [row[-1].text for row in table.rows]
  assert last == ['the lowest mean', 'no test: another data.length']


def seeds(folder, count=3, **lifts):
  """Groups whose losses are higher by so much."""
  for place, (name, lift) in enumerate(lifts.items()):
    for seed in range(count):
      make(
        folder / f'{name}{seed}', seed=seed, lift=lift,
        schedule__learning_rate=10.0 ** -(place + 1),
      )  # fmt: skip
  found = groups.grouped(read(folder))
  return sorted(found, key=lambda group: group.runs[0].name)


def test_results_say_what_the_seeds_show(tmp_path):
  found = seeds(tmp_path, a=0.0, b=0.001, c=0.5)
  rows = results.of_tests(found, 'eval/loss').rows
  texts = [[cell.text for cell in row] for row in rows]
  by_name = dict(zip('abc', texts, strict=True))
  assert by_name['c'][-1] == 'worse'
  assert float(by_name['c'][3].strip('< ')) < 0.05
  ends = {by_name['a'][-1], by_name['b'][-1]}
  assert ends == {'the lowest mean', 'not shown to differ'}
  # A number that is better if higher turns the order around.
  rows = results.of_tests(found, 'eval/accuracy').rows
  assert 'the highest mean' in [row[-1].text for row in rows]
  assert rows[2][-1].text == 'worse'


def test_one_seed_shows_nothing(tmp_path):
  found = seeds(tmp_path, count=1, a=0.0, b=0.5)
  rows = results.of_tests(found, 'eval/loss').rows
  assert rows[1][-1].text == 'no test: it takes two seeds or more of both'


def test_means_link_to_each_seed(tmp_path):
  (group,) = seeds(tmp_path, a=0.0)
  assert results.of_tests([group], 'eval/loss') is None
  links = Links(group.runs)
  ((_, count, step, cell),) = results.of_groups(
    [group], ['eval/loss'], links
  ).rows
  assert (count.text, step.text) == ('3', '200')
  values = [run.at(200, 'eval/loss') for run in group.runs]
  mean, _, deviation = cell.text.partition(' ± ')
  assert float(mean) == pytest.approx(sum(values) / 3, abs=1e-4)
  assert float(deviation) > 0
  assert [x.link for x in cell.more] == [
    f'#run-{n}-step-200' for n in (1, 2, 3)
  ]
  assert [float(x.text) for x in cell.more] == pytest.approx(values, abs=1e-4)
