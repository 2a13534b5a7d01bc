"""Heads of labelled tasks and their losses, against the papers' formulas."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest
import torch

from configs import bert, electra, gpt1
from models.build import build
from models.config import TransformerConfig
from models.embed import Embed
from train.learning import criteria
from train.learning.tuning import Tuning

SMALL = {
  'vocab_size': 50, 'embed_dim': 16, 'mlp_dim': 32, 'heads': 2, 'kv_heads': 2,
  'head_dim': 8, 'dtype': 'float32',
}  # fmt: skip
B, T = 3, 10


def make(config, **keys):
  """The config's model with small sizes, and random parameters."""
  fields = {**config.model, **SMALL, 'max_length': 16} | keys
  model = build(TransformerConfig(**fields))
  rng = np.random.default_rng(1)
  inputs = {name: np.ones([1, T], 'int32') for name in model.INPUTS}
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs))
  params = jax.tree.map(
    lambda x: rng.normal(0, 0.3, x.shape).astype('float32'),
    jax.tree.map(
      lambda x: getattr(x, 'value', x), shapes['params'],
      is_leaf=lambda x: hasattr(x, 'value'),
    ),
  )  # fmt: skip
  return model, params


def texts(rng, lengths):
  """Rows of random tokens: inputs, positions, segments [rows,T]."""
  segments = (np.arange(T) < np.array(lengths)[:, None]).astype('int32')
  inputs = rng.integers(5, 50, segments.shape).astype('int32') * segments
  positions = np.broadcast_to(np.arange(T, dtype='int32'), segments.shape)
  return {'inputs': inputs, 'positions': positions, 'segments': segments}


def log_softmax(x):
  x = np.asarray(x, 'float64')
  x = x - x.max(-1, keepdims=True)
  return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize('head', ['sequence_lm', 'sequence'])
def test_a_pair_in_both_orders(head):
  """Radford et al. 2018, 3.3: W (h1 + h2) + b; the text's loss is of both."""
  classes = 2 if head == 'sequence_lm' else 1
  model, params = make(gpt1.get_config('tiny'), head=head, classes=classes)
  rng = np.random.default_rng(0)
  first = texts(rng, [7, 10, 4])
  second = texts(rng, [7, 10, 4])
  batch = {name: np.stack([x, second[name]], 1) for name, x in first.items()}
  batch |= {
    'labels': np.array([0, 1, 1], 'int32' if classes == 2 else 'float32'),
    'weights': np.ones(B, 'float32'),
  }
  each = [model.apply({'params': params}, **one) for one in (first, second)]
  sums = criteria.criterion_for(model.config).sums(model, params, batch)
  if head == 'sequence':
    found = sum(np.asarray(x)[:, 0] for x in each)  # no bias
    expected = ((found - batch['labels']) ** 2).sum()
    assert float(sums['loss']) == pytest.approx(expected, rel=1e-5)
    return
  bias = params['classes']['dense']['bias']
  logits = each[0]['classes'] + each[1]['classes'] - bias
  picked = log_softmax(logits)[np.arange(B), batch['labels']]
  assert float(sums['loss']) == pytest.approx(-picked.sum(), rel=1e-5)
  total, count = 0, 0
  for one, outputs in zip((first, second), each, strict=True):
    found = log_softmax(outputs['logits'])[:, :-1]
    targets, read = one['inputs'][:, 1:], one['segments'][:, 1:]
    picked = np.take_along_axis(found, targets[..., None], -1)[..., 0]
    total, count = total - (picked * read).sum(), count + read.sum()
  assert float(sums['text_loss']) == pytest.approx(total, rel=1e-5)
  assert float(sums['tokens']) == count
  weights = criteria.criterion_for(model.config).weights(batch)
  assert float(weights['tokens']) == count


def test_spans_of_a_left_to_right_model():
  """Devlin et al. 2019, 5.1: two vectors, and no token sees a later one."""
  model, params = make(gpt1.get_config('tiny'), head='span')
  batch = texts(np.random.default_rng(0), [7, 10, 8])
  found = model.apply({'params': params}, **batch)
  assert {name: x.shape for name, x in found.items()} == {
    'start': (B, T), 'end': (B, T),
  }  # fmt: skip
  other = {name: x.copy() for name, x in batch.items()}
  other['inputs'][:, 5:] += 1
  again = model.apply({'params': params}, **other)
  # With a bidirectional LSTM all tokens count.
  lstm, own = make(gpt1.get_config('tiny'), head='span', features='last')
  pair = [lstm.apply({'params': own}, **x)['start'] for x in (batch, other)]
  assert (pair[0][:, :5] != pair[1][:, :5]).all()
  for name in found:
    np.testing.assert_array_equal(found[name][:, :5], again[name][:, :5])
    assert (found[name][:, 5:7] != again[name][:, 5:7]).all()
  answer = {'start': np.array([2, 0, 1], 'int32')}
  answer['end'] = np.array([4, 9, 1], 'int32')
  answer['weights'] = np.ones(B, 'float32')
  sums = criteria.criterion_for(model.config).sums(
    model, params, batch | answer
  )
  expected = 0.0
  for name in 'start', 'end':
    inside = np.where(batch['segments'] > 0, found[name], -1e9)
    picked = log_softmax(inside)[np.arange(B), answer[name]]
    expected -= picked.sum() / 2
  assert float(sums['loss']) == pytest.approx(expected, rel=1e-5)


def gelu(x):
  return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def joint_reference(params, x, allowed, start):
  """ELECTRA's released finetune/qa, float64: logits, and ends by start."""
  p = jax.tree.map(lambda w: np.asarray(w, 'float64'), params['span'])
  mask = 1000.0 * (allowed - 1.0)
  starts = (x @ p['start']['kernel'] + p['start']['bias'])[..., 0] + mask
  kernel = np.concatenate(
    [p['end_from_start']['kernel'], p['end_here']['kernel']]
  )

  def ends(row, begin):
    both = np.concatenate([np.tile(x[row, begin], (T, 1)), x[row]], -1)
    hidden = gelu(both @ kernel + p['end_here']['bias'])
    return (hidden @ p['end']['kernel'] + p['end']['bias'])[:, 0] + mask[row]

  weights = np.exp(log_softmax(starts))
  both = np.concatenate([x[:, 0], (weights[..., None] * x).sum(1)], -1)
  hidden = gelu(
    both @ p['no_answer_hidden']['kernel'] + p['no_answer_hidden']['bias']
  )
  none = (hidden @ p['no_answer']['kernel'] + p['no_answer']['bias'])[:, 0]
  right = np.stack([ends(row, begin) for row, begin in enumerate(start)])
  every = np.stack([[ends(r, b) for b in range(T)] for r in range(len(x))])
  return starts, right, none, every


def test_the_joint_head_of_electra():
  config = electra.get_config('tiny')
  keys = {
    'family': 'encoder', 'head': 'span_joint', 'generator_divisor': 0,
    'table_dim': 0,
  }  # fmt: skip
  model, params = make(config, **keys)
  batch = texts(np.random.default_rng(0), [9, 10, 6])
  types = (np.arange(T) > 3).astype('int32') * batch['segments']
  batch |= {
    'types': types,
    'start': np.array([5, 0, 4], 'int32'),
    'end': np.array([6, 0, 5], 'int32'),
    'no_answer': np.array([0, 1, 0], 'int32'),
    'weights': np.ones(B, 'float32'),
  }
  inputs = {name: batch[name] for name in model.INPUTS}
  whole = dataclasses.replace(model.config, head='none')
  x = build(whole).apply(
    {'params': {k: params[k] for k in ('embed', 'encoder')}}, **inputs
  )['hidden']
  x = np.asarray(x, 'float64')
  allowed = ((types > 0) | (np.arange(T) == 0)).astype('float64')
  starts, ends, none, every = joint_reference(
    params, x, allowed, batch['start']
  )
  at = np.arange(B)
  losses = -log_softmax(starts)[at, batch['start']]
  losses = (losses - log_softmax(ends)[at, batch['end']]) / 2
  p = 1 / (1 + np.exp(-none))
  gold = batch['no_answer']
  losses -= 0.5 * (gold * np.log(p) + (1 - gold) * np.log(1 - p))
  criterion = criteria.criterion_for(model.config)
  sums = criterion.sums(model, params, batch)
  assert float(sums['loss']) == pytest.approx(losses.sum(), rel=1e-4)

  found = np.asarray(model.apply({'params': params}, **inputs))
  best = np.argsort(-log_softmax(starts), axis=1, kind='stable')
  assert found.shape == (B, 2 + T, T)  # all T of them, fewer than 20
  np.testing.assert_allclose(found[:, 0], log_softmax(starts), atol=1e-3)
  np.testing.assert_allclose(found[:, 1, 0], none, atol=1e-4)
  expected = log_softmax(every)[at[:, None], best]
  likely = np.isin(np.arange(T), np.arange(4, 10))
  np.testing.assert_allclose(
    found[:, 2:5][..., likely], expected[:, :3][..., likely], atol=1e-3
  )


class Reference(torch.nn.Module):
  """torch's LSTM with our weights."""

  def __init__(self, params, inputs, width):
    super().__init__()
    self.lstm = torch.nn.LSTM(
      inputs, width, 2, batch_first=True, bidirectional=True
    )
    state = {}
    for layer in 0, 1:
      for name, end in ('forward', ''), ('backward', '_reverse'):
        own = params[f'{name}_{layer}']
        state[f'weight_ih_l{layer}{end}'] = torch.tensor(own['input'].T)
        state[f'weight_hh_l{layer}{end}'] = torch.tensor(own['state'].T)
        state[f'bias_ih_l{layer}{end}'] = torch.tensor(own['bias'])
        zeros = torch.zeros(4 * width)
        state[f'bias_hh_l{layer}{end}'] = zeros
    self.lstm.load_state_dict(state)

  def forward(self, x, lengths):
    packed = torch.nn.utils.rnn.pack_padded_sequence(
      torch.tensor(x), lengths, batch_first=True, enforce_sorted=False
    )
    found, _ = self.lstm(packed)
    return torch.nn.utils.rnn.pad_packed_sequence(found, batch_first=True)[0]


FEATURES = {
  'embeddings': lambda h, w: h[0],
  'second_to_last': lambda h, w: h[-2],
  'last': lambda h, w: h[-1],
  'sum_last_four': lambda h, w: np.einsum('l,lbtd->btd', w, h[-4:]),
  'concat_last_four': lambda h, w: np.concatenate(h[-4:], axis=-1),
  'sum_all': lambda h, w: np.einsum('l,lbtd->btd', w, h[1:]),
}


def layers_of(model, params, inputs):
  """What the first layer reads and each layer's output: models cut shorter."""
  embed = Embed(model.config)
  first = embed.apply(
    {'params': params['embed']},
    *(inputs[name] for name in ('inputs', 'positions', 'types')),
  )
  states = [first]
  for layers in range(1, model.config.encoder_layers + 1):
    own = dataclasses.replace(
      model.config, head='none', features='', classes=0, encoder_layers=layers
    )
    cut = functools.partial(jax.tree.map, lambda x, n=layers: x[:n])
    part = {'embed': params['embed'], 'encoder': cut(params['encoder'])}
    states.append(build(own).apply({'params': part}, **inputs)['hidden'])
  return np.asarray(states)


def test_a_bilstm_reads_layers():
  """Devlin et al. 2019, 5.3 and table 7, beside torch's LSTM."""
  lengths = [7, 10, 4]
  inputs = texts(np.random.default_rng(0), lengths)
  inputs |= {'types': np.zeros_like(inputs['inputs'])}
  there, states = inputs['segments'] > 0, None
  for features, read in FEATURES.items():
    model, params = make(
      bert.get_config('tiny'), head='tokens', classes=3, features=features,
      encoder_layers=5,
    )  # fmt: skip
    if states is None:
      states, trunk = layers_of(model, params, inputs), params
    params |= {name: trunk[name] for name in ('embed', 'encoder')}
    own = params.get('features', {'weights': np.zeros(1)})['weights']
    weights = np.exp(own) / np.exp(own).sum()
    x = read(states, weights).astype('float32')
    with torch.no_grad():
      hidden = Reference(params['lstm'], x.shape[-1], 16)(x, lengths).numpy()
    dense = params['classes']['dense']
    expected = hidden @ dense['kernel'] + dense['bias']
    found = model.apply({'params': params}, **inputs)['classes']
    np.testing.assert_allclose(
      found[there], expected[there], atol=2e-5, err_msg=features
    )
    some = {'features'} if 'sum' in features else set()
    assert set(Tuning('head').trained(params)) == {'lstm', 'classes'} | some
  other = dataclasses.replace(model.config, scan=False)
  layers = params['encoder']['layers']
  each = {
    f'layer_{n}': jax.tree.map(lambda x, n=n: x[n], layers) for n in range(5)
  }
  same = build(other).apply({'params': params | {'encoder': each}}, **inputs)
  np.testing.assert_allclose(same['classes'][there], found[there], atol=1e-5)


def test_features_belong_to_words():
  config = bert.get_config('tiny')
  for keys, message in (
    (
      {'head': 'sequence', 'classes': 2},
      "an encoder's head 'tokens', .* not 'se",
    ),
    ({'head': 'tokens', 'classes': 2, 'features': 'third'}, 'must be one of'),
  ):
    with pytest.raises(ValueError, match=message):
      make(config, **{'features': 'last'} | keys)
  with pytest.raises(ValueError, match='needs model.token_types=2, not 0'):
    make(config, head='span_joint', token_types=0)
