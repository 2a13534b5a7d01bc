"""Runs that end before their last step: asked to, or by a failure."""

import json
import os
import re
import signal

import numpy as np
import pytest

from input_pipeline import pipeline
from tests.helpers import runs
from tests.helpers.runs import STEPS, config_of
from train import loop, recording
from train.evaluation.held_out import evaluate
from train.fingerprint import fingerprint
from train.runs import adapters, folders
from train.runs.checkpoint import CheckpointError, Checkpoints

pytestmark = [
  pytest.mark.slow,
  # TensorStore's threads print after a checkpoint that could not be read.
  pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning'),
]


def test_asked_to_stop_while_evaluating(finished, half, monkeypatch, capfd):
  """The run stops and saves; when started again, it evaluates first."""

  def asked(step, params, batches, *rest):
    signal.raise_signal(signal.SIGTERM)
    return evaluate(step, params, batches, *rest)

  monkeypatch.setattr(recording, 'evaluate', asked)
  reported = []
  monkeypatch.setattr(
    pipeline.Data, 'report_shares', lambda data: reported.append(data)
  )
  config = config_of(half, checkpoint__every=3)
  loop.train(config, str(half))
  message = 'Asked to stop: the checkpoint of step 4 is saved.'
  assert message in capfd.readouterr().out
  assert len(reported) == 1  # shares, at the end, however few chunks were made
  assert [step for step, _ in runs.rows(half, 'eval/loss')] == [0]
  monkeypatch.setattr(recording, 'evaluate', evaluate)
  loop.train(config, str(half))
  assert runs.rows(half, 'eval/loss') == runs.rows(finished, 'eval/loss')
  assert fingerprint(str(half)) == fingerprint(str(finished))


def test_a_failed_checkpoint_ends_training_at_once(half, monkeypatch):
  """The run does not wait for the next save."""

  class Full(Checkpoints):
    failed = False

    def save(self, state, step, run):
      self.failed = True

    def check_saved(self):
      if self.failed:
        with self._writing():
          raise OSError(28, 'No space left on device')

  monkeypatch.setattr(adapters, 'Checkpoints', Full)
  config = config_of(half, train__steps=30, checkpoint__every=9)
  with pytest.raises(CheckpointError, match='space left.* resume from step 2'):
    loop.train(config, str(half))
  assert runs.rows(half)[-1][0] in (9, 10)


def test_an_error_after_batches_were_skipped(half, monkeypatch):
  """What is saved is the place before them: a resumed run skips them again."""
  cursors = []

  def gone():
    raise OSError('the disk is gone')

  def skip(recorder, state, step, batches):
    if step != 3:
      return state
    cursors.append(np.asarray(state.cursor))
    monkeypatch.setattr(recorder.time, 'waiting', gone)
    return state.replace(cursor=state.cursor + 1)

  monkeypatch.setattr(loop.rewinding, 'skip', skip)
  with pytest.raises(OSError, match='the disk is gone'):
    loop.train(config_of(half, checkpoint__every=9), str(half))
  saved = Checkpoints(str(half), read_only=True).restore_arrays(3)
  np.testing.assert_array_equal(saved['cursor'], cursors[0])


def test_a_state_that_is_not_finite(source, tmp_path):
  """The step's loss is finite, but its state is not saved as the last good."""
  changes = STEPS | {'checkpoint__every': 1, 'schedule__learning_rate': 1e42}
  done = runs.run(runs.command(tmp_path, data__source=source, **changes))
  assert done.returncode == 1
  last = done.stderr.strip().split('\n')[-1]
  assert last.startswith('Error: After step 1 the state is not finite, though')
  assert 'No checkpoint had been saved yet' in last
  assert not runs.checkpoints(tmp_path)


def test_steps_before_a_damaged_document_are_kept(tmp_path):
  words = [f'word{n % 97} and {n * n % 89} of them' for n in range(2000)]
  for file in range(4):
    lines = [
      json.dumps({'text': ' '.join(words[n : n + 12])})
      for n in range(file, 700, 4)
    ]
    lines[150:] = ['{"text": "cut'] if file == 3 else lines[150:]
    (tmp_path / f'{file}.json').write_text('\n'.join(lines))
  done = runs.run(
    runs.command(
      tmp_path / 'run',
      data__source=f'json:{tmp_path}/*.json',
      data__max_bad_share=0.0,
      data__tokenizer_kind='bytes',
      model__vocab_size=300,
      checkpoint__every=1000,
      train__steps=1000,
      eval__every=1000,
    )
  )
  assert done.returncode == 1
  assert '3.json, line 151' in done.stderr
  last = runs.rows(tmp_path / 'run')[-1][0]
  assert 0 < last <= runs.checkpoints(tmp_path / 'run')[-1]


def test_loss_that_is_not_finite(tmp_path, source):
  folder = tmp_path / 'run'
  done = runs.run(
    runs.command(
      folder,
      data__source=source,
      checkpoint__every=1,
      schedule__learning_rate=1e30,
    )
  )
  assert done.returncode == 1
  last = done.stderr.strip().split('\n')[-1]
  found = re.match(
    r'Error: The loss of step (\d+) is \S+, the norm of its gradient nan', last
  )
  step = int(found[1])
  cursor = json.loads(re.search(r'its batch: (\[\[.*?\]\])', last)[1])
  assert np.shape(cursor) == (4, 4)
  kept = runs.checkpoints(folder)
  assert kept
  assert kept[-1] < step
  assert f'The checkpoint of step {kept[-1]} is the last good one' in last
  assert 'Traceback' not in done.stderr
  # The row is written, with null for the number that is not finite.
  assert runs.rows(folder, 'train/grad_norm')[-1] == (step, None)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
  def makedirs(*_, **__):
    raise OSError(30, 'Read-only file system')

  monkeypatch.setattr(os, 'makedirs', makedirs)
  message = 'no files can be written there .Read-only file system'
  with pytest.raises(OSError, match=message):
    folders.make(str(tmp_path / 'run'))
