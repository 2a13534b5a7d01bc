"""`eval.ranked` answers with the likeliest of a task's options."""

import jax
import numpy as np
import pytest

from configs import flan_t5, lamda
from input_pipeline import pipeline
from tests.helpers import runs
from train.finetuning import adoption, scoring
from train.learning.heads import logits_of
from train.learning.state import create_state
from train.setup import set_up

SMALL = {
  'data.mixture': (('task:flan/numbers/sum', 0),), 'data.batch': 8,
  'data.streams': 2, 'eval.source': 'task:flan/numbers/even@validation',
  'eval.ranked': True, 'model.dropout': 0.0, 'model.attention_dropout': 0.0,
  'data.tokenizer_kind': 'bytes', 'model.vocab_size': 384,
}  # fmt: skip
CHECKED = 3  # examples whose options are read by themselves


def opened(config):
  setup = set_up(adoption.resolve(config), jax.devices()[:1])
  data = pipeline.open_data(
    setup.data,
    0,
    config.model.vocab_size,
    config.eval.source,
    family=config.model.family,
  )
  return setup, data


@pytest.mark.parametrize(
  ('module', 'arg'),
  [(flan_t5, 'tiny'), (lamda, 'size=tiny,recipe=flan')],
  ids=['encoder_decoder', 'decoder'],
)
def test_the_likeliest_option_is_the_answer(module, arg):
  """As the model finds each option alone, without padding, after its prompt."""
  setup, data = opened(runs.set_keys(module.get_config(arg), SMALL))
  parts = setup.model, setup.optimizer, setup.state, data.start(), 0
  params = create_state(*parts, tuning=setup.tuning).params
  (found,) = scoring.make_scoring(setup, data)(params)

  (corpus,) = data.evaluated
  examples = found.examples[:CHECKED]
  rows = corpus.labels.encode(examples, data.tokenizer).rows
  for example, (row,), prediction in zip(
    examples, rows, found.predictions, strict=False
  ):
    sums = {
      option: alone(setup, params, data, row['inputs'], option)
      for option in found.task.options(example)
    }
    assert sorted(sums) == ['no', 'yes']
    assert abs(sums['yes'] - sums['no']) > 1e-3  # rounding decides nothing
    assert prediction == max(sums, key=sums.__getitem__)
  labels = np.array([example['label'] for example in found.examples])
  right = labels == np.array(found.predictions)
  assert found.metrics['accuracy'] == 100 * np.mean(right)


def alone(setup, params, data, prompt, option):
  """The log probability of an option and of the EOS after it."""
  answer = [*data.tokenizer.encode_batch([option.encode()])[0], data.end_id]
  if setup.model.config.family == 'encoder_decoder':
    inputs, before = [data.start_id, *answer[:-1]], 0
    read = {'encoder_inputs': prompt}
  else:
    inputs, before = [data.start_id, *prompt, *answer[:-1]], len(prompt)
    read = {}
  read |= {'inputs': inputs}
  arrays = {name: np.array([ids]) for name, ids in read.items()}
  for name, ids in read.items():
    arrays[name.replace('inputs', 'segments')] = np.ones([1, len(ids)], int)
  logits = logits_of(jax.jit(setup.model.apply)({'params': params}, **arrays))
  log_probs = np.asarray(jax.nn.log_softmax(logits))[0, before:]
  return log_probs[np.arange(len(answer)), answer].sum()


def test_a_task_without_options():
  config = flan_t5.get_config('tiny')
  setup, data = opened(
    runs.set_keys(
      config, SMALL | {'eval.source': 'task:flan/words/copy@validation'}
    )
  )
  with pytest.raises(ValueError, match='eval.ranked.*words/copy has none'):
    scoring.make_scoring(setup, data)
