"""Reward heads beside transformers' classes for sequences.

A head reads the last token of a decoder's text, [CLS] of an encoder's, and the
last token of an encoder-decoder's target.
"""

import jax
import numpy as np
import pytest
import torch
import transformers

from models import pretrained
from models.build import build
from models.pretrained.layouts import bert, llama, t5
from tests.helpers import answers, compared
from tests.helpers import hf_reference as reference
from train.aligning import criteria

ONE = {'num_labels': 1, 'pad_token_id': 0, 'vocab_size': compared.V}
MODELS = {
  'decoder': (
    llama,
    lambda: transformers.LlamaForSequenceClassification(
      transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, **ONE,
      )
    ),
  ),
  'encoder': (
    bert,
    lambda: transformers.BertForSequenceClassification(
      transformers.BertConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **ONE,
      )
    ),
  ),
  'encoder_decoder': (
    t5,
    lambda: transformers.T5ForSequenceClassification(
      transformers.T5Config(
        d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=2,
        eos_token_id=compared.EOS, decoder_start_token_id=0, dropout_rate=0.0,
        **ONE,
      )
    ),
  ),
}  # fmt: skip


def torch_rewards(model, batch, family):
  """float32 [B,2] of transformers' class."""
  rows, length = batch['inputs'].shape[0], batch['inputs'].shape[-1]
  inputs, read = (
    torch.tensor(batch[name].reshape(-1, length)).long()
    for name in ('inputs', 'segments')
  )
  own = {'input_ids': inputs, 'attention_mask': read}
  if family == 'encoder':
    types = batch['types'].reshape(-1, length)
    own['token_type_ids'] = torch.tensor(types).long()
  if family != 'encoder_decoder':
    return model(**own).logits.reshape(rows, 2)
  # The class reads the decoder's place where its own input has EOS: that input
  # is made as long as the decoder's, with one EOS at the end of the answer.
  source, there = (
    np.repeat(batch[f'encoder_{name}'], 2, axis=0)
    for name in ('inputs', 'segments')
  )
  hidden = model.transformer(
    input_ids=torch.tensor(source).long(),
    attention_mask=torch.tensor(there).long(),
    decoder_input_ids=inputs,
  ).last_hidden_state
  last = hidden[torch.arange(len(inputs)), read.sum(1) - 1]
  return model.classification_head(last).reshape(rows, 2)


@pytest.mark.parametrize('family', MODELS)
def test_rewards_and_gradients_are_those_of_transformers(family, tmp_path):
  layout, make = MODELS[family]
  theirs = reference.randomise(make()).eval()
  described, params = pretrained.load(reference.saved(theirs, tmp_path))
  assert (described.head, described.classes) == ('sequence', 1)
  model = build(described)
  config = answers.config_of('reward', family)
  batch = answers.batch_of(answers.data_of('reward', family), family, 1)
  criterion = criteria.criterion_for(config.align)

  def loss_of(params):
    sums = criterion.sums(model, params, batch)
    return criterion.means(sums)['loss']

  loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
  real = {name: x[:-1] for name, x in batch.items()}  # without padding
  rewards = torch_rewards(theirs, real, family)
  reference.close(criteria.scores(model, params, real), rewards)
  wanted = -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, 1]).mean()
  wanted.backward()
  np.testing.assert_allclose(loss, wanted.item(), rtol=1e-5)
  unused = [x for x, p in theirs.named_parameters() if p.grad is None]
  reference.gradients_close(described, grads, theirs, layout, unused)


def test_a_t5_with_a_reward_head_goes_back_and_forth(tmp_path):
  """T5ForSequenceClassification itself, where text and target are one."""
  _, make = MODELS['encoder_decoder']
  theirs = reference.randomise(make()).eval()
  folder = reference.saved(theirs, tmp_path / 'theirs')
  described, params = pretrained.load(folder)
  text = np.array([[5, 6, 7, compared.EOS], [8, 9, 10, compared.EOS]])
  with torch.no_grad():
    wanted = theirs(input_ids=torch.tensor(text)).logits
  ones = np.ones_like(text)
  found = build(described).apply(
    {'params': params}, encoder_inputs=text, encoder_segments=ones,
    inputs=np.pad(text[:, :-1], [(0, 0), (1, 0)]), segments=ones,
  )  # fmt: skip
  reference.close(found, wanted)
  reference.round_trip(theirs, folder, tmp_path)
