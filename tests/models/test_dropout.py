"""Where models apply dropout: the mask, rate and scale of every place."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from models import attention
from models.attention import Attention
from models.block import Context
from models.build import build
from models.config import TransformerConfig
from models.families.rwkv import RwkvStack
from models.stack import Stack
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import random_params
from tests.models.families import test_electra as bert
from tests.models.families.test_rwkv import FIELDS as RWKV
from tests.models.test_models import assert_close, small_config

RATE, ATTENTION = 0.3, 0.45
RATES = {'dropout': RATE, 'attention_dropout': ATTENTION}
KEPT, SEEN = 1 / (1 - RATE), 1 / (1 - ATTENTION)
B, S, T, N = 2, 7, 5, 4


def apply(monkeypatch, model, params, *args, draw=np.ones):
  """The output if these masks are drawn, and the (rate, shape) of each.

  Attention's is a hash of places (`models/kernels/keep.py`), the others jax's.
  """
  drawn = []

  def bernoulli(_, p, shape):
    drawn.append((pytest.approx(1 - p), tuple(shape)))
    return draw(shape, bool)

  def all_kept(_, rate, shape, __):
    return bernoulli(None, 1 - rate, shape)

  monkeypatch.setattr(jax.random, 'bernoulli', bernoulli)
  monkeypatch.setattr(attention, 'all_kept', all_kept)
  rngs = {'dropout': jax.random.key(0)}
  run = jax.jit(
    lambda params: model.apply({'params': params}, *args, rngs=rngs)
  )
  return run(params), drawn


def scaled(params, factors):
  """Multiplies the weights whose paths end so by these factors."""
  found = set()

  def times(path, x):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    ends = [end for end in factors if path.endswith(end)]
    found.update(ends)
    return x * np.prod([factors[end] for end in ends])

  scaled = jax.tree_util.tree_map_with_path(times, params)
  assert found == set(factors)
  return scaled


def test_t5_drops_out_at_five_places(monkeypatch):
  """T5 drops out at five places (Raffel et al. 2020, 2.1; Mesh TensorFlow).

  The places are the input and the output of each stack, the attention
  weights, the MLP, and what each branch adds; all positions share a mask. If
  nothing is dropped, each place only multiplies, as the next weight could.
  """
  sizes = {'kv_heads': N, 'encoder_layers': 1, 'decoder_layers': 1}
  sizes |= {'heads': N, 'scan': False}
  config = small_config(**sizes, **RATES)
  params = random_params(build(config))
  source, target = np.ones([B, S], 'int32'), np.ones([B, T], 'int32')
  source, target = source.cumsum(1), target.cumsum(1)
  arguments = source, target, source > 0, target > 0
  logits, drawn = apply(monkeypatch, build(config), params, *arguments)
  features, hidden = ((RATE, (B, 1, size)) for size in (16, 24))
  encoder, decoder = ((ATTENTION, (B, N, 1, size)) for size in (S, T))
  mlp = [hidden, features]
  assert drawn == [
    *(features, encoder, features, *mlp, features),
    *(features, decoder, features, encoder, features, *mlp, features),
  ]
  factors = {
    'embed/table': KEPT,
    'attention/output/kernel': SEEN * KEPT,  # cross-attention too
    'mlp/output/kernel': KEPT * KEPT,
    'encoder/norm/scale': KEPT,
    'decoder/norm/scale': KEPT,
  }
  plain = build(small_config(**sizes))
  run = jax.jit(lambda params: plain.apply({'params': params}, *arguments))
  expected = run(scaled(params, factors))
  assert_close(logits, expected)


def test_bert_drops_out_at_three_places(monkeypatch):
  """BERT drops numbers of embeddings, attention weights and branches alone."""
  fields = bert.ENCODER | {'head': 'mlm', 'encoder_layers': 1, 'scan': False}
  config = TransformerConfig(**fields | RATES | {'table_dim': 0})
  params = bert.random_params(config)
  tokens = np.ones([B, T], 'int32').cumsum(1)
  outputs, drawn = apply(monkeypatch, build(config), params, tokens, tokens > 0)
  features = RATE, (B, T, 24)
  assert drawn == [features, (ATTENTION, (B, N, T, T)), features, features]
  factors = {
    'embed/norm/scale': KEPT,
    'embed/norm/bias': KEPT,
    'attention/output/kernel': SEEN * KEPT,
    'attention/output/bias': KEPT,
    'mlp/output/kernel': KEPT,
    'mlp/output/bias': KEPT,
  }
  plain = build(TransformerConfig(**fields | {'table_dim': 0}))
  run = jax.jit(lambda p: plain.apply({'params': p}, tokens, tokens > 0))
  assert_close(outputs['logits'], run(scaled(params, factors))['logits'])


def test_parallel_branches_drop_out_each_by_itself(monkeypatch):
  fields = {'parallel': 'one_norm', 'tie_embeddings': False, 'scan': False}
  fields |= {'decoder_layers': 1}
  config = tiny_decoder('none', **fields, **RATES)
  params = random_params(build(config))
  tokens = np.ones([B, T], 'int32').cumsum(1)
  logits, drawn = apply(monkeypatch, build(config), params, tokens, tokens > 0)
  features = RATE, (B, T, 24)
  assert drawn == [features, (ATTENTION, (B, 6, T, T)), features, features]
  factors = {
    'embed/table': KEPT,
    'attention/output/kernel': SEEN * KEPT,
    'attention/output/bias': KEPT,
    'mlp/output/kernel': KEPT,
    'mlp/output/bias': KEPT,
  }
  plain = build(tiny_decoder('none', **fields))
  run = jax.jit(lambda p: plain.apply({'params': p}, tokens, tokens > 0))
  assert_close(logits, run(scaled(params, factors)))


@pytest.mark.parametrize('family', ['decoder', 'rwkv'])
def test_layers_of_a_scan_draw_masks_of_their_own(family):
  """Each layer adds 1 (RWKV: 1/2) where it drops nothing, to zeros."""
  layers = 2
  if family == 'rwkv':
    fields = RWKV | {'embed_dim': 24, 'decoder_layers': layers}
    stack = RwkvStack(TransformerConfig(**fields | {'dropout': 0.5}))
    context = np.zeros([B, T], bool)
  else:
    stack = Stack(tiny_decoder('none', dropout=0.5), layers, causal=True)
    context = Context()
  x = np.zeros([B, T, 24], 'float32')
  shapes = jax.eval_shape(stack.init, jax.random.key(0), x, context)['params']
  ones = ('mlp/output/bias', 'channel_mix_norm/bias', 'channel_mix/mix_key')
  ones += ('channel_mix/key/kernel', 'channel_mix/value/kernel')

  def fill(path, x):
    path = jax.tree_util.keystr(path, simple=True, separator='/')
    return np.full(x.shape, path.endswith(ones) or path == 'norm/scale', 'f')

  params = jax.tree_util.tree_map_with_path(fill, nn.unbox(shapes))
  rngs = {'dropout': jax.random.key(0)}
  found, _ = stack.apply({'params': params}, x, context, rngs=rngs)
  # The final norm keeps what is equal equal: 0 to all of the layers added.
  for row in np.asarray(found).reshape(B * T, 24):
    assert len(np.unique(row.round(4))) == layers + 1


@pytest.mark.parametrize(
  ('head', 'before_the_pooler', 'shapes'),
  [
    ('mlm_nsp', False, []),  # google-research/bert, run_pretraining.py
    ('span', False, []),  # run_squad.py
    ('sequence', False, [(B, 24)]),  # run_classifier.py
    # fairseq's RobertaClassificationHead
    ('sequence', True, [(B, 24), (B, 24)]),
    ('tokens', False, [(B, T, 24)]),
    ('pooler', True, []),
  ],
)
def test_heads_drop_out_as_in_the_published_code(
  monkeypatch, head, before_the_pooler, shapes
):
  fields = bert.ENCODER | {'encoder_layers': 1, 'scan': False, 'table_dim': 0}
  fields |= {'classes': 3} if head in ('sequence', 'tokens') else {}
  fields |= {'head': head, 'pooler_dropout': before_the_pooler}
  config = TransformerConfig(**fields | RATES)
  params = bert.random_params(config)
  tokens = np.ones([B, T], 'int32').cumsum(1)
  outputs, drawn = apply(monkeypatch, build(config), params, tokens, tokens > 0)
  body = 4  # the embeddings, the attention weights and two branches
  assert drawn[body:] == [(RATE, shape) for shape in shapes]
  if head != 'sequence':
    return
  # Nothing is dropped here, so each place only multiplies what follows.
  after = {'classes/dense/kernel': KEPT}
  after |= {'pooler/dense/kernel': KEPT} if before_the_pooler else {}
  rest = {
    'embed/norm/scale': KEPT,
    'embed/norm/bias': KEPT,
    'attention/output/kernel': SEEN * KEPT,
    'attention/output/bias': KEPT,
    'mlp/output/kernel': KEPT,
    'mlp/output/bias': KEPT,
  }
  plain = build(TransformerConfig(**fields))
  run = jax.jit(lambda p: plain.apply({'params': p}, tokens, tokens > 0))
  expected = run(scaled(params, rest | after))['classes']
  assert_close(outputs['classes'], expected)


@pytest.mark.parametrize('kind', ['t5', 'residual'])
def test_attention_weights_are_dropped(monkeypatch, kind):
  """Weights are dropped after the softmax: a whole key (T5), or one weight."""
  config = small_config(heads=N, kv_heads=N, dropout_kind=kind, **RATES)
  D, H = config.embed_dim, config.head_dim
  rng = np.random.default_rng(0)
  x, source = rng.normal(size=(B, T, D)), rng.normal(size=(B, S, D))
  weights = {
    name: {'kernel': rng.normal(0, D**-0.5, (D, N * H)).astype('float32')}
    for name in ('query', 'key', 'value')
  }
  weights['output'] = {'kernel': weights['query']['kernel'].T}
  keep = []

  def draw(shape, _):
    keep.append(rng.random(shape) < 0.5)
    return keep[-1]

  class Whole(Attention):
    def __call__(self, x, source):
      return super().__call__(x, self.keys_values(source))

  ours, _ = apply(
    monkeypatch, Whole(config, cross=True), weights, x, source, draw=draw
  )
  kernels = {name: kernel['kernel'] for name, kernel in weights.items()}
  q, k, v = (
    (y @ kernels[name]).reshape(B, -1, N, H)
    for name, y in (('query', x), ('key', source), ('value', source))
  )
  shares = np.exp(np.einsum('BTNH,BSNH->BNTS', q, k))
  shares /= shares.sum(-1, keepdims=True)
  (keep,) = keep
  assert keep.shape == (B, N, 1 if kind == 't5' else T, S)
  shares = shares * keep * SEEN
  mixed = np.einsum('BNTS,BSNH->BTNH', shares, v).reshape(B, T, -1)
  assert_close(ours, mixed @ kernels['output'])
