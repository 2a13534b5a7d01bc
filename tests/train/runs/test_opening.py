"""Runs opened on other devices, with other data."""

import pytest

from configs import t5
from train.parallel import sharding
from train.runs import opening


def test_devices_that_do_not_make_the_mesh_hold_the_whole_model(capsys):
  """As many devices as divide the batch hold the whole model each.

  This is for a run's own config only.
  """
  config = t5.get_config('tiny').unlock()
  config.data.batch = 12
  config.sharding.rules = 'fsdp'
  config.sharding.mesh.fsdp = 16
  setup = opening.set_up_here(config, own=True)
  assert setup.rules == sharding.make_rules('replicated')
  mesh = setup.mesh
  assert mesh.shape['data'] == mesh.size == 4  # of 8
  err = capsys.readouterr().err
  assert 'Each of 4 holds the whole model instead.' in err
  with pytest.raises(ValueError, match='16'):
    opening.set_up_here(config, own=False)


OLD = {'source': {'a.txt': 3}, 'eval_source': {'b.txt': 4}, 'tokenizer': 'x'}


@pytest.mark.parametrize(
  ('changed', 'accept', 'accepted'),
  [
    ({}, (), True),
    ({'source': {'a.txt': 5}}, (), False),
    ({'source': {'a.txt': 5}}, ('source',), True),
    ({'source': {'a.txt': 5}}, ('eval_source',), False),
    ({'eval_source': {'b.txt': 5}}, ('source',), False),
    ({'eval_source': {'b.txt': 5}}, ('eval_source',), True),
    ({'source': {}, 'eval_source': {}}, ('source', 'eval_source'), True),
    ({'source': {}, 'eval_source': {}}, ('eval_source',), False),
    ({'source': {}, 'tokenizer': 'y'}, ('source', 'eval_source'), False),
    ({'tokenizer': 'y'}, ('source', 'eval_source'), False),
  ],
)
def test_data_that_changed(changed, accept, accepted, capsys):
  """Documents may be others where that is accepted; tokens never."""
  if accepted:
    lines = opening.check_data(OLD, OLD | changed, 'W', accept)
    assert len(lines) == len(changed)
    err = capsys.readouterr().err
    assert all(line in err for line in lines)
    return
  with pytest.raises(ValueError, match='changed since the .* in W') as caught:
    opening.check_data(OLD, OLD | changed, 'W', accept)
  message = str(caught.value)
  assert all(key in message for key in changed)
  may = 'tokenizer' not in changed
  assert ('--accept_changed_data' in message) == may
