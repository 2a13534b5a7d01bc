"""Keys of a config that a run may change, and those that it may not."""

import json
import shutil

import pytest

from configs import bert
from tests.helpers import runs
from tests.helpers.runs import config_of
from train import loop
from train.fingerprint import fingerprint
from train.runs import changes, history, workdir
from train.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.slow
CURRICULUM = {'curriculum': ()}  # none


def test_another_rate(finished, half):
  """Another rate is refused; with the flag it is accepted and recorded.

  Later starts keep it.
  """
  change = {'schedule__learning_rate': 0.5, 'train__label_smoothing': 0.1}
  config = config_of(half, **change)
  message = 'learning_rate: 1.0 there, 0.5 now(?s:.*)--accept_changed_config'
  with pytest.raises(ValueError, match=message):
    loop.train(config, str(half))
  loop.train(config, str(half), accept_changed_config=True)
  rates = dict(runs.rows(half, 'train/learning_rate'))
  assert rates[3] == pytest.approx(rates[2] / 2)
  ours, theirs = (fingerprint(str(folder)) for folder in (half, finished))
  assert ours['data'] == theirs['data']
  assert ours['params'] != theirs['params']
  entries = history.read(str(half))
  begun, changed = entries
  assert (begun['event'], begun['step']) == ('begun', 0)
  assert (changed['event'], changed['step']) == ('config changed', 2)
  assert changed['changed'] == {
    'schedule.learning_rate': [1.0, 0.5],
    'train.label_smoothing': [0.0, 0.1],
  }
  assert changed['time'] >= begun['time']
  assert Checkpoints(str(half)).run(4)['history'] == entries
  # Killed before the first checkpoint after it.
  shutil.rmtree(half / 'checkpoints' / '4')
  loop.train(None, str(half))
  assert fingerprint(str(half)) == ours
  assert history.read(str(half)) == entries


@pytest.mark.parametrize(
  ('change', 'may'),
  [
    ({'train__steps': 9}, True),
    ({'schedule__name': 'constant', 'schedule__warmup_steps': None}, True),
    ({'eval__every': 3, 'train__log_every': 2}, True),
    ({'optimizer__clip_threshold': 2.0, 'optimizer__weight_decay': 0.1}, True),
    ({'model__dropout': 0.3, 'train__accumulate': 2}, True),
    ({'optimizer__b1': 0.9}, False),  # another form of the state
    ({'optimizer__factor_from': 0}, False),
    ({'optimizer__moments_dtype': 'bfloat16'}, False),
    ({'train__accumulate_dtype': 'bfloat16', 'train__accumulate': 2}, True),
    ({'data__length': 64}, False),
    ({'model__activation': 'silu'}, False),
    ({'seed': 1}, False),
    ({'eval__source': 'docs'}, False),  # held-out texts would be trained on
  ],
)
def test_what_may_change(half, change, may):
  config = config_of(half, **change)
  key = next(iter(change)).replace('__', '.')
  if may:
    workdir.check(str(half), config, accept=True)
    return
  message = (
    rf'(?s){key}: .*cannot change in a run that has .*--init_from={half}'
  )
  with pytest.raises(ValueError, match=message):
    workdir.check(str(half), config, accept=True)


def test_phases_cannot_change(tmp_path):
  """The places in the data depend on them; a run may become longer."""
  config = bert.get_config('tiny')
  workdir.claim(str(tmp_path), config)
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
  assert config.train.phases
  with config.unlocked():
    config.train.steps *= 2
  assert workdir.check(str(tmp_path), config, accept=True)
  with config.unlocked():
    config.train.phases = ()
  with pytest.raises(ValueError, match=r"phases: .*'steps', 180.*, \[\] "):
    workdir.check(str(tmp_path), config, accept=True)


def test_steps_of_two_stages():
  """They are cut in half: another number would move the switch."""

  def may(tuning):
    trees = [
      {'train': {'steps': n}, 'tuning': {'train': tuning}, 'data': CURRICULUM}
      for n in (8, 12)
    ]
    return changes.may_change('train.steps', *trees)

  assert may('all')
  assert not may('two_stage')


def test_a_run_that_has_not_trained(half, texts, tmp_path):
  """Any config may follow one that was only evaluated, as in a new folder."""
  shutil.rmtree(half / 'checkpoints')
  path = half / 'metrics.jsonl'
  rows = path.read_text().splitlines(keepends=True)
  path.write_text(rows[0])
  assert json.loads(rows[0])['step'] == 0
  assert not history.trained(str(half))
  change = {'model__embed_dim': 24, 'data__length': 48, 'train__steps': 2}
  change |= {'seed': 3, 'model__vocab_size': 240}
  config = config_of(half, **change)
  loop.train(config, str(half))
  loop.train(config, str(tmp_path / 'new'))
  assert fingerprint(str(half)) == fingerprint(str(tmp_path / 'new'))
  for name in ('train/loss', 'eval/loss'):
    assert runs.rows(half, name) == runs.rows(tmp_path / 'new', name)
  path.write_text(''.join(rows[:2]))  # a step was made
  assert history.trained(str(half))
