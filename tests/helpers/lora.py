"""A small BERT with LoRA, ours and peft's, and how both are trained."""

import jax
import numpy as np
import optax
import peft
import torch
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict

from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers.optimizers import adamw
from train.learning import lora
from train.learning.optimizer import make_optimizer
from train.learning.state import TrainState, abstract_params
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
  with torch.no_grad():
    for _, x, weight in beside(factors, model):
      weight.copy_(torch.tensor(x.T))
  return model


def beside(factors, model):
  """(name, our array, peft's parameter) of each factor of each layer."""
  own = dict(model.named_parameters())
  for layer in range(LAYERS):
    for name, theirs in THEIRS.items():
      for factor in ('a', 'b'):
        weight = own[
          f'base_model.model.bert.encoder.layer.{layer}.{theirs}.'
          f'lora_{factor.upper()}.default.weight'
        ]
        ours = of_layer(factors, name, layer, factor)
        yield f'{layer}/{name}/{factor}', ours, weight


def assert_moved_alike(first, last, model):
  """Our factors went from the first state to where peft's are."""
  begun, ended = (beside(x.params[lora.KEY], model) for x in (first, last))
  for (name, before, weight), (_, after, _) in zip(begun, ended, strict=True):
    x = weight.detach().numpy().T
    moved, error = np.linalg.norm(x - before), np.linalg.norm(after - x)
    assert error <= 1e-4 * moved, (name, error / moved)


def moments_of(state):
  """Adam's part of the optimizer's state."""
  return next(x for x in state.opt_state if isinstance(x, tuple) and x)


def their_training(model, batch):
  """The losses of the steps, and the optimizer; trains the factors alone."""
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
  return losses, optimizer


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
