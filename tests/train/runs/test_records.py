"""What a run records: rows of several steps, and the best checkpoint."""

import json
import math
import shutil

import numpy as np
import pytest

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from models.config import TransformerConfig
from tests.helpers import runs
from tests.helpers.runs import config_of
from train import loop, recording
from train.learning.criteria import criterion_for
from train.runs.best import Best
from train.runs.checkpoint import Checkpoints

pytestmark = pytest.mark.slow


def test_rows_of_several_steps(finished, half):
  """The loss is the mean over all predicted tokens since the row before."""
  config = config_of(half, train__log_every=4, checkpoint__every=1)
  loop.train(config, str(half))
  data = pipeline.open_data(
    DataConfig(**config.data), config.seed, config.model.vocab_size,
    workdir=str(half), family=config.model.family,
  )  # fmt: skip
  batches = data.batches(data.start(), np.arange(config.data.batch))
  batches = [next(batches) for _ in range(4)]
  weights = [batch['weights'].sum() for batch in batches[2:]]
  losses = [loss for _, loss in runs.rows(finished)][2:]
  assert weights[0] != weights[1]
  expected = np.average(losses, weights=weights)
  (*_, (step, found)) = runs.rows(half)
  assert (step, found) == (4, pytest.approx(expected, rel=1e-6))
  seen = [
    sum((x[n] > 0).sum() for n in ('segments', 'encoder_segments'))
    for x in batches
  ]
  assert dict(runs.rows(half, 'data/tokens_seen'))[4] == sum(seen)
  assert dict(runs.rows(finished, 'data/tokens_seen'))[3] == sum(seen[:3])
  # Resumed between two rows, it writes the same rows.
  before = runs.rows(half), runs.rows(half, 'data/tokens_seen')
  shutil.rmtree(half / 'checkpoints' / '4')
  loop.train(None, str(half))
  assert (runs.rows(half), runs.rows(half, 'data/tokens_seen')) == before
  made_by = Checkpoints(str(half)).run(4)['made_by']
  assert {'command', 'commit', 'versions', 'time'} <= made_by.keys()


def test_the_best_checkpoint_is_kept(half, monkeypatch):
  """The best is kept wherever its evaluation comes, and by a resumed run."""
  losses = iter([6.0, 5.0, 2.0, math.nan, 3.0, 2.5, 1.0, 4.0])  # of steps 2-9

  def found(*_):
    loss = next(losses)
    return {'loss': loss, 'perplexity': 1.0, 'accuracy': 0.5, 'tokens': 9}

  monkeypatch.setattr(recording, 'evaluate', found)
  own = {'checkpoint__best': 'loss', 'checkpoint__keep': 1, 'eval__every': 1}
  own['checkpoint__every'] = 100  # evaluated steps are saved
  loop.train(config_of(half, **own, train__steps=6), str(half))
  assert runs.checkpoints(half) == [4, 6]
  best = json.loads((half / 'best.json').read_text())
  assert best == {'step': 4, 'metric': 'eval/loss', 'value': 2.0}
  assert Checkpoints(str(half), read_only=True).find('best') == 4
  loop.train(config_of(half, **own, train__steps=9), str(half))
  assert runs.checkpoints(half) == [8, 9]
  assert json.loads((half / 'best.json').read_text())['step'] == 8
  # A higher accuracy is better. A number must be measured to be chosen.
  message = "best is 'f1'; .* report accuracy, loss, perplexity"
  with pytest.raises(ValueError, match=message):
    loop.train(config_of(half, checkpoint__best='f1'), str(half))
  criterion = criterion_for(TransformerConfig(**config_of(half).model))
  best = Best('accuracy', criterion, False)
  assert best.add(1, {'accuracy': 0.5})
  assert not best.add(2, {'accuracy': 0.4})
  assert best.add(3, {'accuracy': 0.6})
