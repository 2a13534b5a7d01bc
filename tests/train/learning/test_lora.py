"""LoRA beside peft's, on one BERT with the same weights, A and B."""

import dataclasses

import jax
import numpy as np
import optax
import peft
import pytest
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict

from models import pretrained
from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers.optimizers import adamw
from train.learning import lora
from train.learning.optimizer import make_optimizer
from train.learning.state import TrainState, abstract_params, as_kept
from train.learning.step import train_step
from train.learning.tuning import Tuning

V, T, B, P, RATE, STEPS = 61, 9, 6, 3, 0.02, 5
LAYERS, WIDTH, INNER, RANK = 3, 24, 40, 4
TUNING = Tuning(
  'lora', RANK, 6.0, ('attention/query', 'attention/value', 'mlp/output')
)
# Our names, and peft's of one layer.
THEIRS = {
  'attention/query': 'attention.self.query',
  'attention/value': 'attention.self.value',
  'mlp/output': 'output.dense',
}


def torch_model():
  torch.manual_seed(0)
  sizes = transformers.BertConfig(
    vocab_size=V,
    hidden_size=WIDTH,
    num_hidden_layers=LAYERS,
    num_attention_heads=2,
    intermediate_size=INNER,
    max_position_embeddings=T,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    attn_implementation='eager',
  )
  return reference.randomise(transformers.BertForMaskedLM(sizes))


def make_batch():
  rng = np.random.default_rng(0)
  lengths = rng.integers(4, T + 1, B)
  return {
    'inputs': rng.integers(0, V, (B, T), 'int32'),
    'segments': (np.arange(T) < lengths[:, None]).astype('int32'),
    'positions': np.tile(np.arange(T, dtype='int32'), (B, 1)),
    'types': rng.integers(0, 2, (B, T), 'int32'),
    'predict_at': np.stack(
      [rng.choice(n, P, replace=False) for n in lengths]
    ).astype('int32'),
    'targets': rng.integers(0, V, (B, P), 'int32'),
    'weights': np.ones((B, P), 'float32'),
    'cursor': np.arange(B * 4, dtype='int32').reshape(B, 4),
  }


def random_factors(config):
  """A and B, neither of which is 0, in a tree of the state's kind."""
  rng = np.random.default_rng(1)
  shapes, _ = TUNING.extended(*abstract_params(build(config)))
  flat = flatten_dict(shapes[lora.KEY])
  return unflatten_dict(
    {
      path: (0.3 * rng.standard_normal(x.shape)).astype('float32')
      for path, x in flat.items()
    }
  )


def of_layer(factors, name, layer, factor):
  """One layer's factor, stacked or not."""
  stack = factors['encoder']
  single = 'layers' not in stack
  tree = stack[f'layer_{layer}'] if single else stack['layers']
  for part in name.split('/'):
    tree = tree[part]
  return np.asarray(tree[factor] if single else tree[factor][layer])


def peft_model(model, factors):
  """peft's LoRA of the model, with our factors."""
  settings = peft.LoraConfig(
    r=RANK,
    lora_alpha=TUNING.alpha,
    target_modules=r'.*(self\.(query|value)|layer\.\d+\.output\.dense)',
  )
  model = peft.get_peft_model(model, settings)
  own = dict(model.named_parameters())
  for layer in range(LAYERS):
    for name, theirs in THEIRS.items():
      for factor in ('a', 'b'):
        x = of_layer(factors, name, layer, factor)
        with torch.no_grad():
          own[their_name(layer, theirs, factor)].copy_(torch.tensor(x.T))
  return model


def their_name(layer, theirs, factor):
  return (
    f'base_model.model.bert.encoder.layer.{layer}.{theirs}.'
    f'lora_{factor.upper()}.default.weight'
  )


def their_training(model, batch):
  """The losses of the steps; trains the factors alone."""
  trained = [p for p in model.parameters() if p.requires_grad]
  assert len(trained) == 2 * LAYERS * len(THEIRS)
  optimizer = torch.optim.AdamW(
    trained, RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1
  )
  labels = np.full((B, T), -100)
  np.put_along_axis(labels, batch['predict_at'], batch['targets'], axis=1)
  losses = []
  for _ in range(STEPS):
    found = model(
      input_ids=torch.tensor(batch['inputs'].astype('int64')),
      attention_mask=torch.tensor(batch['segments']),
      token_type_ids=torch.tensor(batch['types'].astype('int64')),
      labels=torch.tensor(labels),
    )
    optimizer.zero_grad()
    found.loss.backward()
    optimizer.step()
    losses.append(found.loss.item())
  return losses


def our_training(config, params, batch, accumulate=1, tuning=TUNING):
  """The losses of the steps, and the first and the last state."""
  model = build(config)
  _, axes = tuning.extended(*abstract_params(model))
  optimizer = make_optimizer(
    adamw(), optax.constant_schedule(RATE), tuning.trained(axes)
  )

  @jax.jit
  def step(state, batch):
    with jax.default_matmul_precision('highest'):
      return train_step(
        state,
        batch,
        model=model,
        optimizer=optimizer,
        schedule=optax.constant_schedule(RATE),
        seed=0,
        accumulate=accumulate,
        tuning=tuning,
      )

  first = TrainState(
    step=np.int32(0),
    params=params,
    opt_state=optimizer.init(tuning.trained(params)),
    cursor=np.zeros((1, 4), 'int32'),
  )
  state, losses = first, []
  for _ in range(STEPS):
    state, metrics = step(state, batch)
    losses.append(float(metrics['loss']))
  return losses, first, jax.device_get(state)


@pytest.mark.parametrize('scan', [True, False])
def test_steps_and_merged_weights_equal_those_of_peft(tmp_path, scan):
  plain = torch_model()
  folder = reference.saved(plain, tmp_path / 'plain')
  config, params = pretrained.load(folder, head='mlm', scan=scan)
  factors = random_factors(config)
  batch = make_batch()

  theirs = peft_model(plain, factors)
  expected = their_training(theirs, batch)
  losses, first, last = our_training(
    config, params | {lora.KEY: factors}, batch
  )
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  assert losses[-1] < losses[0] - 0.1

  own = dict(theirs.named_parameters())
  for layer in range(LAYERS):
    for name, their in THEIRS.items():
      for factor in ('a', 'b'):
        x = own[their_name(layer, their, factor)].detach().numpy().T
        before, after = (
          of_layer(tree.params[lora.KEY], name, layer, factor)
          for tree in (first, last)
        )
        moved = np.linalg.norm(x - before)
        error = np.linalg.norm(after - x)
        assert error <= 1e-4 * moved, (name, factor, error / moved)

  # What is exported is what peft's merge_and_unload gives.
  merged = TUNING.merged(last.params)
  pretrained.save(config, merged, str(tmp_path / 'merged'))
  again = transformers.BertForMaskedLM.from_pretrained(tmp_path / 'merged')
  state = theirs.merge_and_unload().state_dict()
  for name, x in again.state_dict().items():
    np.testing.assert_allclose(x, state[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('scan', [True, False])
def test_a_base_in_bfloat16_equals_that_of_peft(tmp_path, scan):
  """x W + s (x A) B: losses, first gradients, and factors after the steps."""
  tuning = dataclasses.replace(TUNING, base_dtype='bfloat16')
  plain = torch_model()
  with torch.no_grad():
    for p in plain.parameters():
      p.copy_(p.to(torch.bfloat16) if p.ndim > 1 else p)
  folder = reference.saved(plain, tmp_path / 'plain')
  config, params = pretrained.load(folder, head='mlm', scan=scan)
  factors, batch = random_factors(config), make_batch()
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  state = as_kept(params | {lora.KEY: factors}, shapes)
  kept = flatten_dict(state, sep='/')
  for name, x in flatten_dict(params, sep='/').items():
    narrow = kept[name].dtype == 'bfloat16'
    assert narrow == name.endswith(('kernel', 'table', 'position', 'type'))
    np.testing.assert_array_equal(kept[name], x)  # rounded above

  theirs = peft_model(plain, factors)
  expected = their_training(theirs, batch)
  losses, first, last = our_training(config, state, batch, tuning=tuning)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  own = dict(theirs.named_parameters())
  for layer in range(LAYERS):
    for name, their in THEIRS.items():
      for factor in ('a', 'b'):
        x = own[their_name(layer, their, factor)].detach().numpy().T
        before, after = (
          of_layer(tree.params[lora.KEY], name, layer, factor)
          for tree in (first, last)
        )
        moved, error = np.linalg.norm(x - before), np.linalg.norm(after - x)
        assert error <= 1e-4 * moved, (name, factor, error / moved)
  for name, x in flatten_dict(last.params, sep='/').items():
    if not name.startswith('lora/'):
      assert np.asarray(x).tobytes() == np.asarray(kept[name]).tobytes(), name
  # A model never sees a sum that would be rounded or take memory.
  given = tuning.applied(last.params)
  flat = flatten_dict(given, sep='/')
  changed = {x.rpartition('/')[0] for x in flat if x.endswith('/a')}
  assert len(changed) == len(THEIRS) * (1 if scan else LAYERS)
  assert all(flat[f'{x}/kernel'].dtype == 'bfloat16' for x in changed)
  merged = tuning.merged(last.params)
  model, rest = build(config), {k: batch[k] for k in build(config).INPUTS}
  with jax.default_matmul_precision('highest'):
    a, b = (
      jax.tree.leaves(jax.jit(model.apply)({'params': x}, **rest))
      for x in (given, merged)
    )
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)


def test_tables_begin_unchanged_and_change_lookup_and_logits(trained):
  config, _, first, _ = trained
  tuning = dataclasses.replace(TUNING, matrices=('embed/table',))
  shapes, _ = tuning.extended(*abstract_params(build(config)))
  pair = tuning.drawn(shapes, 3)[lora.KEY]['embed']['table']
  assert pair['a'].shape == (V, RANK)
  assert not pair['a'].any()
  assert 0.8 < pair['b'].std() < 1.2
  base = {k: x for k, x in first.params.items() if k != lora.KEY}
  pair = {'a': jax.numpy.ones((V, RANK)), 'b': pair['b']}
  tree = base | {lora.KEY: {'embed': {'table': pair}}}
  for params in (tuning.merged(tree), tuning.applied(tree)):
    np.testing.assert_allclose(
      params['embed']['table'],
      base['embed']['table'] + 6.0 / RANK * pair['a'] @ pair['b'],
      rtol=1e-5,
      atol=1e-5,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = reference.saved(torch_model(), tmp_path_factory.mktemp('bert'))
  config, params = pretrained.load(folder, head='mlm')
  params |= {lora.KEY: random_factors(config)}
  return config, *our_training(config, params, make_batch())


def test_frozen_weights_do_not_move_and_have_no_moments(trained):
  _, _, first, last = trained
  before, after = (flatten_dict(x.params, sep='/') for x in (first, last))
  for name, x in before.items():
    same = np.asarray(x).tobytes() == np.asarray(after[name]).tobytes()
    assert same != name.startswith('lora/'), name
  adam = next(x for x in last.opt_state if isinstance(x, tuple) and x)
  for moments in (adam.mu, adam.nu):
    assert moments.keys() == {lora.KEY}
  # Two matrices WIDTH x WIDTH and one INNER x WIDTH in each layer.
  count = LAYERS * RANK * (2 * (WIDTH + WIDTH) + (INNER + WIDTH))
  assert sum(x.size for x in jax.tree.leaves(adam.mu)) == count


def test_merged_weights_are_the_formula(trained):
  _, _, _, last = trained
  merged = TUNING.merged(last.params)
  assert lora.KEY not in merged
  layers = last.params['encoder']['layers']
  for name in ('query', 'value', 'key'):
    kernel = layers['attention'][name]['kernel'].astype('float64')
    expected = kernel
    if name != 'key':
      pair = last.params[lora.KEY]['encoder']['layers']['attention'][name]
      a, b = (pair[x].astype('float64') for x in 'ab')
      expected = kernel + 6.0 / RANK * np.einsum('lir,lro->lio', a, b)
      assert np.abs(expected - kernel).max() > 0.1
    ours = merged['encoder']['layers']['attention'][name]['kernel']
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_accumulated_gradients_are_those_of_the_whole_batch(trained):
  config, losses, first, last = trained
  batch = make_batch()
  parts, _, state = our_training(config, first.params, batch, accumulate=2)
  np.testing.assert_allclose(parts, losses, rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5),
    state.params,
    last.params,
  )


def test_new_factors_change_nothing_and_are_drawn_from_the_seed(trained):
  config, _, first, _ = trained
  shapes, _ = TUNING.extended(*abstract_params(build(config)))
  new, other = (TUNING.drawn(shapes, seed)[lora.KEY] for seed in (3, 4))
  base = {k: x for k, x in first.params.items() if k != lora.KEY}
  merged = TUNING.merged(base | {lora.KEY: new})
  jax.tree.map(np.testing.assert_array_equal, merged, base)
  flat, other = (flatten_dict(x, sep='/') for x in (new, other))
  uniform = []
  for name, x in flat.items():
    if name.endswith('/b'):
      assert not x.any()
      continue
    assert not np.array_equal(x, other[name])
    uniform.append(np.ravel(x * x.shape[-2] ** 0.5))
  uniform = np.concatenate(uniform)  # between -1 and 1
  assert 0.97 < np.abs(uniform).max() <= 1
  assert abs(uniform.mean()) < 0.05
  assert abs(uniform.std() - 3**-0.5) < 0.05


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'matrices': ('attention/qery',)}, "Did you mean 'attention/query'"),
    ({'matrices': ('mlp_norm',)}, 'which LoRA cannot change'),
    ({'rank': WIDTH}, f'below {WIDTH}, the smaller side of attention/query'),
  ],
)
def test_what_cannot_be_low_rank(trained, changes, message):
  tuning = Tuning(**{**vars(TUNING), **changes})
  with pytest.raises(ValueError, match=message):
    tuning.extended(*abstract_params(build(trained[0])))
