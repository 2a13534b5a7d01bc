"""train.evaluate: a run is opened from its workdir, and evaluated."""

import json
import math
import re
import shutil
import sys

import jax
import numpy as np
import pytest

from configs import roberta
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from tests.helpers import runs
from tests.helpers.runs import files, program
from train.evaluate import evaluate_run
from train.evaluation.held_out import EmptySplitError, evaluate
from train.runs import opening, workdir
from train.runs.checkpoint import CheckpointError

pytestmark = pytest.mark.slow


def test_evaluation_is_the_runs_own(evaluated):
  """Evaluation gives the run's numbers at each step, on any mesh.

  They are the means over the tokens of the held-out documents.
  """
  before = files(evaluated)
  done = program('evaluate', evaluated)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  found = {8: json.loads(done.stdout.splitlines()[-1])}
  found[4] = evaluate_run(str(evaluated), 4)
  for step, means in found.items():
    names = {'loss', 'perplexity', 'accuracy', 'tokens'}
    others = {f'other/{name}' for name in names}
    assert set(means) == {'step', *names, *others}
    assert means['perplexity'] == pytest.approx(math.exp(means['loss']))
    assert means['step'] == step
    for name in (*('loss', 'accuracy', 'tokens'), 'other/loss', 'other/tokens'):
      expected = dict(runs.rows(evaluated, f'eval/{name}'))[step]
      assert means[name] == pytest.approx(expected, rel=1e-5 * (step == 4))
    assert_means(means, held_out(evaluated, step, batches=2))
  assert found[8]['loss'] < found[4]['loss']
  # Each of eval.sources has the numbers that it has alone.
  config = workdir.read_config(str(evaluated))
  ((_, source),) = config.eval.sources
  config.eval.source, config.eval.sources = source, ()
  config.sharding.mesh.data = -1
  alone = evaluate_run(str(evaluated), 8, config)
  for name in ('loss', 'accuracy', 'tokens'):
    assert found[8][f'other/{name}'] == pytest.approx(alone[name], rel=1e-5)
  assert files(evaluated) == before


def test_evaluation_of_the_whole_split(evaluated):
  """eval.batches=0 reads the whole split, in batches of any size."""
  config = workdir.read_config(str(evaluated))
  config.eval.batches = 0
  config.sharding.mesh.data = -1  # of all devices here
  found = evaluate_run(str(evaluated), 8, config)
  loss, hits = held_out(evaluated, 8, rows=48)
  assert_means(found, (loss, hits))
  assert len(loss) > 1.5 * len(held_out(evaluated, 8, batches=1)[0])


def assert_means(means, truth):
  loss, hits = truth
  assert means['tokens'] == len(loss)
  assert means['loss'] == pytest.approx(loss.mean(), rel=1e-5)
  assert means['accuracy'] == pytest.approx(hits.mean(), rel=1e-6)


def held_out(evaluated, step, rows=16, batches=0):
  """The loss of each predicted token of the split's first batches, or of all,
  and whether the likeliest one is right, in float64."""
  opened = opening.open_run(str(evaluated), step)
  data = opening.open_data(opened)
  apply = jax.jit(lambda *x: opened.model.apply({'params': opened.params}, *x))
  losses, hits = [], []
  for number, batch in enumerate(data.evaluation(np.arange(rows), rows)):
    if not batch['segments'].any() or (batches and number == batches):
      break
    names = 'encoder_inputs', 'inputs', 'encoder_segments', 'segments'
    logits = np.asarray(apply(*(batch[name] for name in names)), 'float64')
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = batch['targets'][..., None]
    here = batch['weights'] > 0
    losses.append(-np.take_along_axis(log_p, targets, -1)[..., 0][here])
    hits.append((logits.argmax(-1) == batch['targets'])[here])
  return np.concatenate(losses), np.concatenate(hits)


def test_another_config(evaluated, capsys):
  """Other data is reported; another model is an error."""
  flags = ['--config=configs/t5.py:tiny']
  with open(evaluated / 'config.json') as file:
    config = json.load(file)
  source = config['data']['source']
  settings = runs.CONFIG | runs.SYSTEMS['t5']
  settings |= {'data.source': source, 'data.holdout': 5}
  flags += [f'--config.{key}={value}' for key, value in settings.items()]
  done = program('evaluate', evaluated, *flags)
  assert done.returncode == 0, done.stderr
  assert 'other data than in training: data.holdout: 10, now 5' in done.stderr
  tokens = json.loads(done.stdout.splitlines()[-1])['tokens']
  assert tokens > 1.5 * runs.rows(evaluated, 'eval/tokens')[-1][1]
  done = program('evaluate', evaluated, *flags, '--config.model.embed_dim=24')
  assert done.returncode == 1
  assert 'Error: The parameters in' in done.stderr
  assert 'Traceback' not in done.stderr


def test_the_split_ends_where_no_text_is_left():
  """A batch whose rows are too short for a prediction does not end it."""

  def batch(tokens, predicted):
    return {'present': np.array(tokens), 'weight': np.array(float(predicted))}

  def step(params, sums):
    return sums | {
      'loss': 2.0 * sums['weight'],
      'z_loss': 0.0,
      'correct': sums['weight'] / 4,
    }

  text, short, padding = batch(9, 3), batch(2, 0), batch(0, 0)
  for batches, tokens in (
    ([short, text, short, short, text, padding, text], 6),
    ([text, padding, text], 3),
    ([text, text, short], 6),
  ):
    found = evaluate(step, None, batches)
    means = {'loss': 2.0, 'accuracy': 0.25, 'perplexity': math.exp(2)}
    assert found == pytest.approx(means | {'tokens': tokens})
  assert evaluate(step, None, [short, text, text], limit=2)['tokens'] == 3
  with pytest.raises(EmptySplitError, match='None of the 4 evaluated tokens'):
    evaluate(step, None, [short, short, padding])
  with pytest.raises(EmptySplitError, match=r'empty. Lower data\.holdout'):
    evaluate(step, None, [padding, text])


def test_documents_without_a_masked_token(tmp_path):
  """Some batches of 2 have no prediction; none ends the evaluation."""
  rng = np.random.default_rng(0)
  words = ['one', 'two', 'three', 'four']
  documents = [' '.join(rng.choice(words, n)) for n in rng.integers(1, 4, 400)]
  (tmp_path / 'text.txt').write_text('\n\n'.join(documents))
  settings = roberta.get_config('tiny').data.to_dict() | {
    'source': f'text:{tmp_path}/text.txt',
    'objective': 'doc_sentences',
    'pack': False,
    'streams': 1,
    'holdout': 2,
  }

  def step(params, batch):
    return dict.fromkeys(('loss', 'z_loss', 'correct'), 0.0) | {
      'present': np.sum(batch['segments'] > 0),
      'weight': np.sum(batch['weights']),
    }

  found = []
  for batch in (2, 400):
    config = DataConfig(**settings | {'batch': batch})
    data = pipeline.open_data(config, 0, 270, '', tmp_path, family='encoder')
    split = data.evaluation(np.arange(batch), batch)
    found.append(evaluate(step, None, split)['tokens'])
  # One of up to six tokens and signs is masked in most, but not in all.
  assert 50 < found[0] == found[1] < 200


@pytest.mark.parametrize('name', ['__main__', 'evaluate', 'generate'])
def test_help(name):
  """Help lists the flags for several processes too."""
  done = runs.run([sys.executable, '-m', f'train.{name}', '--help'])
  assert done.returncode == 0
  for flag in ('workdir', 'config', 'coordinator', 'processes'):
    if (name, flag) != ('generate', 'config'):
      assert f'  --{flag}: ' in done.stdout


def test_what_cannot_be_opened(evaluated, tmp_path):
  done = program('evaluate', evaluated, '--step=5')
  assert done.returncode == 1
  assert re.search(
    r'Error: No checkpoint of step 5 .* are: 4, 8\.', done.stderr
  )
  assert 'Traceback' not in done.stderr
  missing = str(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match=f'^{missing}: there is no such folder'):
    evaluate_run(missing)
  with pytest.raises(ValueError, match=f'^{tmp_path} holds no run'):
    evaluate_run(str(tmp_path))
  shutil.copy(evaluated / 'config.json', tmp_path)
  with pytest.raises(CheckpointError, match='there are: none'):
    evaluate_run(str(tmp_path))
  shutil.copytree(evaluated / 'checkpoints', tmp_path / 'checkpoints')
  with pytest.raises(ValueError, match=r'tokenizer.model is missing'):
    evaluate_run(str(tmp_path))
  assert not (tmp_path / 'tokenizer.model').exists()
