"""Counts of a run: means between rows, tokens seen, what a checkpoint keeps."""

import json
import math
import tomllib
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from train.evaluation.held_out import evaluate
from train.learning.criteria import mlm_nsp_means
from train.learning.tokens import lm_means
from train.phases import planned_bytes
from train.reporting.tally import Tally, ending, peak_memory
from train.reporting.timing import Life
from train.runs import history


def lm_sums(loss, weight):
  """The sums of a batch with `weight` predicted tokens and that mean loss."""
  return {
    'loss': loss * weight,
    'z_loss': 0.0,
    'correct': 0.5 * weight,
    'weight': weight,
  }


def test_a_token_counts_the_same_in_any_batch():
  tally = Tally(lm_means, {})
  tally.add(lm_sums(2.0, 30.0), 40)
  tally.add(lm_sums(5.0, 10.0), 20)
  row = tally.row()
  assert row['loss'] == pytest.approx((2 * 30 + 5 * 10) / 40)
  assert row['tokens'] == 30
  tally.add(lm_sums(7.0, 1.0), 1)  # since the last row
  assert tally.row()['loss'] == 7.0
  assert tally.totals()['data/tokens_seen'] == 61


def test_two_terms_have_a_weight_each():
  """Losses are 1 nat for 4 tokens and 3 for 12; 0.5 for 3 pairs and 2 for 1."""
  tally = Tally(mlm_nsp_means, {})
  for loss, weight, pair, pairs in ((1.0, 4, 0.5, 3), (3.0, 12, 2.0, 1)):
    sums = {'next_loss': pair * pairs, 'next_correct': 0.0, 'pairs': pairs}
    tally.add(lm_sums(loss, weight) | sums, 100)
  row = tally.row()
  assert row['mlm_loss'] == pytest.approx((1 * 4 + 3 * 12) / 16)
  assert row['next_sentence_loss'] == pytest.approx((0.5 * 3 + 2) / 4)
  assert row['loss'] == pytest.approx(2.5 + 0.875)


def test_a_checkpoint_keeps_the_counts():
  """Counts are exact, even numbers that float32 cannot hold."""
  whole = Tally(lm_means, {})
  whole.add(lm_sums(np.float32(0.1), 3.0), 2**25 + 1)
  resumed = Tally(lm_means, json.loads(json.dumps(whole.state())))
  for tally in (whole, resumed):
    tally.add(lm_sums(np.float32(0.7), 2.0), 2**25 + 1)
  assert resumed.totals()['data/tokens_seen'] == 2**26 + 2
  assert resumed.row() == whole.row()
  assert resumed.totals()['train/wall_seconds'] >= 0


def test_a_checkpoint_without_counts():
  """The tokens before it are not known, so none are reported."""
  tally = Tally(lm_means, None)
  tally.add(lm_sums(1.0, 1.0), 5)
  assert 'data/tokens_seen' not in tally.totals()
  again = Tally(lm_means, json.loads(json.dumps(tally.state())))
  assert 'data/tokens_seen' not in again.totals()
  assert again.row()['tokens'] == 5


def test_peak_memory():
  found = peak_memory()['train/peak_host_bytes']
  with open('/proc/self/status') as file:
    fields = dict(line.split(':', 1) for line in file)
  expected = int(fields['VmHWM'].split()[0]) * 1024
  assert found == pytest.approx(expected, rel=0.05)


def test_memory_of_devices_that_do_not_report_it(monkeypatch):
  """What the largest compiled step takes stands for it, but on no CPU."""
  assert peak_memory().keys() == {'train/peak_host_bytes'}
  assert peak_memory(7)['train/planned_device_bytes'] == 7
  assert '7.00 GB on a device, as compiled' in ending(Life(), 7 * 10**9)

  def part(donated):
    jitted = jax.jit(lambda x: x + 1, donate_argnums=donated)
    shape = jax.ShapeDtypeStruct((64, 64), 'float32')
    return types.SimpleNamespace(step=jitted.lower(shape).compile())

  parts = [part(()), part((0,)), types.SimpleNamespace(step=None)]
  assert planned_bytes(parts) == 0
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  one = 64 * 64 * 4
  whole, donated = planned_bytes(parts), planned_bytes(parts[1:])
  assert whole >= 2 * one
  assert whole - donated == one  # what is given up is there once
  assert planned_bytes(parts[2:]) == 0


def test_perplexity():
  """Perplexity is e to a token's loss, without the loss of the pairs."""

  def step(params, batch):
    second = {'next_loss': 3.0, 'next_correct': 1.0, 'pairs': 1.0}
    return lm_sums(2.0, batch) | second | {'present': batch}

  found = evaluate(step, None, [8.0, 0.0], means=mlm_nsp_means)
  assert found['loss'] == pytest.approx(5.0)
  assert found['perplexity'] == pytest.approx(math.exp(2.0))


def test_what_made_a_checkpoint():
  found = history.made_by()
  assert json.loads(json.dumps(found)) == found
  assert found['versions'].keys() >= {'python', 'jax', 'flax', 'numpy'}
  # The packages that make the rows; TensorFlow's has two names.
  assert found['versions'].keys() >= {'sentencepiece', 'tokenizers'}
  assert found['versions'].keys() & {'tensorflow', 'tensorflow-cpu'}
  project = Path(history.__file__).parents[2] / 'pyproject.toml'
  name = tomllib.loads(project.read_text())['project']['name']
  assert name in history.software.PACKAGES
  assert found['versions']['numpy'] == np.__version__
  assert 'python' in found['command']
  assert len(found['commit'].split('+')[0]) in (0, 40)
