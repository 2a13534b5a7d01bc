"""Fine-tuning a T5 gives the losses and the answers of a plain loop in torch.

The weights are random, the examples real ones of STS-B as T5's texts, in one
order. Both sides have T5's recipe (Raffel et al. 2020, 3.1.3): Adafactor with a
constant rate relative to each parameter's scale, without momentum, and the loss
on log_z. transformers' Adafactor is the same mathematics where every matrix is
factored; T5's own code leaves small ones whole.
"""

import os

import jax
import numpy as np
import pytest
import torch
import transformers
from transformers.optimization import Adafactor

from configs.finetune import t5
from input_pipeline import pipeline
from models import decoding, pretrained
from train.finetuning import adoption
from train.learning.state import create_state
from train.setup import set_up

# The model learns 16 examples by heart: so answers differ from each other, and
# are not decided by rounding.
BATCH, RATE, STEPS, WRITTEN = 8, 1e-2, 30, 6

pytestmark = pytest.mark.skipif(
  not os.environ.get('TREELINE_DATA'),
  reason='set TREELINE_DATA to a folder with real data (README.md)',
)


def configured():
  """The recipe in small, without dropout and with every matrix factored."""
  config = t5.get_config('task=glue/stsb,size=tiny').unlock()
  config.data.task_folder = os.path.join(os.environ['TREELINE_DATA'], 'glue')
  config.data.documents, config.data.batch, config.data.streams = 16, BATCH, 1
  config.data.length, config.data.target_length = 64, 8
  config.data.pack, config.data.sentinels = False, 0
  config.model.vocab_size = 320  # of a tokenizer that is trained
  config.model.dtype = 'float32'
  config.model.dropout = config.model.attention_dropout = 0.0
  config.optimizer.factor_from = 1
  config.schedule.learning_rate = RATE
  return adoption.resolve(config.lock())


def to_torch(x):
  return torch.tensor(np.asarray(x), dtype=torch.long)


def torch_losses(model, batches, z_loss):
  """Cross-entropy of each step of a plain loop."""
  optimizer = Adafactor(
    model.parameters(), lr=RATE, relative_step=False, scale_parameter=True
  )
  losses = []
  for batch in batches:
    logits = model(
      input_ids=to_torch(batch['encoder_inputs']),
      attention_mask=to_torch(batch['encoder_segments']),
      decoder_input_ids=to_torch(batch['inputs']),
    ).logits
    real = torch.tensor(batch['weights']) > 0
    logits, targets = logits[real], to_torch(batch['targets'])[real]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    log_z = torch.logsumexp(logits, dim=-1)
    optimizer.zero_grad()
    (loss + z_loss * (log_z**2).mean()).backward()
    optimizer.step()
    losses.append(float(loss.detach()))
  return losses


def test_losses_and_answers_are_those_of_a_plain_loop(tmp_path):
  config = configured()
  setup = set_up(config, jax.devices()[:1])
  data = pipeline.open_data(
    setup.data, config.seed, config.model.vocab_size, family='encoder_decoder'
  )
  parts = setup.model, setup.optimizer, setup.state, data.start(), config.seed
  state = create_state(*parts, tuning=setup.tuning)
  folder = str(tmp_path / 't5')
  pretrained.save(setup.model.config, jax.device_get(state.params), folder)
  theirs = transformers.T5ForConditionalGeneration.from_pretrained(
    folder, dropout_rate=0.0
  )
  found = data.batches(data.start(), np.arange(BATCH))
  batches = [next(found) for _ in range(STEPS)]
  found.close()

  expected = torch_losses(theirs, batches, config.train.z_loss)
  losses = []
  step = setup.compile_step(setup.batch(data.shapes))
  for batch in setup.place(batches):
    state, metrics = step(state, batch)
    losses.append(float(metrics['loss']))
  # A step multiplies what rounding has moved, most where the loss falls fast.
  np.testing.assert_allclose(losses[:10], expected[:10], atol=2e-6)
  np.testing.assert_allclose(losses, expected, atol=1e-3)
  assert losses[-1] < 0.1 < losses[0]

  read = batches[0]['encoder_inputs'], batches[0]['encoder_segments']
  ours = decoding.decode(
    jax.device_get(state.params), *read, model=setup.model, length=WRITTEN,
    eos=data.tokenizer.eos, start=0, vocabulary=data.tokenizer.size,
  ).tokens  # fmt: skip
  answers = theirs.eval().generate(
    to_torch(read[0]), attention_mask=to_torch(read[1]), do_sample=False,
    max_new_tokens=WRITTEN,
  )[:, 1:].numpy()  # fmt: skip
  written = np.zeros_like(ours)
  written[:, : answers.shape[1]] = answers
  np.testing.assert_array_equal(ours, written)
  assert len(np.unique(written, axis=0)) > 3
