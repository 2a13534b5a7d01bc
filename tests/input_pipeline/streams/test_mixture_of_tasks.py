"""Shares of a mixture of tasks are shares of examples, not of packed rows."""

import numpy as np
import pytest

from configs.finetune import t5
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from tests.helpers import labelled
from train.finetuning import adoption

ROWS = 16


def table(folder, texts, name):
  """A task of its own texts; the source."""
  folder.mkdir()
  for split in ('train', 'dev'):
    lines = [f'{text}\t{n % 2}' for n, text in enumerate(texts)]
    text = '\n'.join(['sentence\tlabel', *lines])
    (folder / f'{split}.tsv').write_text(f'{text}\n')
  files = f'{folder}/train.tsv,validation={folder}/dev.tsv'
  return f'task:tsv:{files},text=sentence,name={name}'


@pytest.mark.parametrize('pack', [True, False])
def test_shares(pack, tmp_path):
  """A short and a long task with 3 to 1 examples, and text for a half."""
  mixture = (
    (table(tmp_path / 'a', ['it is so'] * 300, 'short'), 0),
    (table(tmp_path / 'b', ['it was not so ' * 9] * 100, 'long'), 0),
    (labelled.write_text(tmp_path), 400),
  )
  config = t5.get_config('size=tiny').unlock()
  config.data.source, config.data.mixture = '', mixture
  config.data.rates, config.data.pack = 'examples', pack
  config.data.tokenizer_kind, config.model.vocab_size = 'bytes', 384
  config.data.length, config.data.target_length = 256, 64
  config.data.batch, config.data.streams, config.data.holdout = ROWS, 4, 10
  config.data.objective, config.data.noise_density = 'span_corruption', 0.15
  config.data.mean_span_length, config.data.sentinels = 3.0, 20
  config.data.document_tokens = 999
  config = adoption.resolve(config.lock())
  data = pipeline.open_data(
    DataConfig(**config.data), 0, 384, family='encoder_decoder'
  )
  assert ('rates' in data.fingerprint) == pack
  batches, counts = data.batches(data.start(), np.arange(ROWS)), np.zeros(3)
  for _ in range(40):
    batch = next(batches)
    for inputs, segments in zip(
      batch['encoder_inputs'], batch['encoder_segments'], strict=True
    ):
      start = bytes(int(x) - 3 for x in inputs[:5] if 3 <= x < 259)
      source = {b'short': 0, b'long ': 1}.get(start, 2)
      counts[source] += segments.max() if source < 2 else 1
  batches.close()
  expected = np.array([3, 1, 4]) / 8
  spread = np.sqrt(expected * (1 - expected) / (40 * ROWS / 3))
  assert (np.abs(counts / counts.sum() - expected) < 4 * spread).all()


@pytest.mark.parametrize('both', [True, False])
@pytest.mark.parametrize('objective', ['prefix', 'text_to_text'])
def test_a_decoders_loss_on_inputs(objective, both, tmp_path):
  """The inputs of tasks are learnt as those of text beside them are."""
  task = table(tmp_path / 'a', ['it is so'] * 300, 'short')
  text = ((labelled.write_text(tmp_path), 300),) * (objective == 'prefix')
  config = t5.get_config('size=tiny').unlock()
  config.data.source, config.data.mixture = '', ((task, 0), *text)
  config.data.rates, config.data.tokenizer_kind = 'examples', 'bytes'
  config.model.family, config.model.encoder_layers = 'decoder', 0
  config.model.vocab_size, config.data.sentinels = 384, 0
  config.data.length, config.data.holdout = 256, 10 * len(text)
  config.data.batch, config.data.streams = ROWS, 4
  config.data.objective, config.data.loss_on_inputs = objective, both
  data = pipeline.open_data(DataConfig(**config.data), 0, 384, family='decoder')
  batches, tasks = data.batches(data.start(), np.arange(ROWS)), 0
  for _ in range(4):
    batch = next(batches)
    learnt = batch['segments'] > 0
    if not both:
      learnt &= (batch['prefix'] == 0) | _last(batch['prefix'])
    np.testing.assert_array_equal(batch['weights'] > 0, learnt)
    words = [
      bytes(int(x) - 3 for x in row[1:6] if x > 2) for row in batch['inputs']
    ]
    tasks += sum(word == b'short' for word in words)
  batches.close()
  assert tasks


def _last(prefix):
  """The last place of each prefix, which predicts the first target."""
  after = np.pad(prefix[:, 1:], [(0, 0), (0, 1)])
  return (prefix == 1) & (after == 0)
