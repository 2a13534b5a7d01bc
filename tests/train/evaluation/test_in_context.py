"""Best possible predictors against brute force; scores that are too good."""

import functools
import itertools
import shutil
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import in_context as recipes
from input_pipeline.objectives import in_context as drawn
from models import masks
from models.build import build
from models.config import TransformerConfig
from train import loop
from train.evaluation import best_predictors, in_context
from train.runs import opening

PROMPTS = 4000


def rng(seed=0):
  return np.random.default_rng(seed)


def test_least_squares():
  """NumPy's solution; exact from I examples on, and 1 - k / I before."""
  batch = drawn.linear(PROMPTS, 14, 4, rng())
  errors = best_predictors.scores(batch, 'linear', 16)
  assert not errors[:, 1::2].any()
  errors = errors[:, ::2]
  assert errors[:, 4:].max() < 1e-9
  for k in range(4):
    wanted, error = 1 - k / 4, errors[:, k].std() / PROMPTS**0.5
    assert abs(errors[:, k].mean() - wanted) < 5 * error
  x, y = batch['inputs'][0, ::2], batch['labels'][0, ::2]
  for k in range(1, 7):
    w = np.linalg.lstsq(x[:k], y[:k], rcond=None)[0]
    assert np.isclose(errors[0, k], (x[k] @ w - y[k]) ** 2 / 4, atol=1e-9)


def test_copier():
  """Its guesses, made on drawn texts, are right as often as it says."""
  batch, symbols = drawn.copying(PROMPTS, 30, 20, rng()), 20
  expected = best_predictors.scores(batch, 'copying', symbols + drawn.FIRST)
  again = batch['shots'] > 0
  assert (expected[again] == 1).all()
  for place in range(drawn.MOST):
    here = batch['shots'][:, place] == 0
    first = batch['inputs'][here, 0]
    returns = batch['targets'][here, place] == first
    # Of the symbols that have not come, all are equally likely.
    new = (~returns).mean() / (symbols - place - 1)
    found = max(returns.mean(), new)
    error = max(found * (1 - found) / here.sum(), 1e-12) ** 0.5
    assert abs(found - expected[here, place][0]) < 5 * error


def test_bayes(monkeypatch):
  """All patterns and names, one by one, in a small world."""
  for module in drawn, best_predictors:
    for name, value in (('CLASSES', 2), ('NAMES', 3), ('VALUES', 2)):
      monkeypatch.setattr(module, name, value)
  size, noise = 2, drawn.NOISE
  batch = drawn.classification(40, 14, size, rng(1))
  hits = best_predictors.scores(batch, 'classification', 99)
  patterns = np.array(list(itertools.product(range(2), repeat=size)))
  worlds = [
    (patterns[list(pair)], names)
    for pair in itertools.product(range(4), repeat=2)
    for names in itertools.permutations(range(3), 2)
  ]

  def likelihood(world, x, name):
    pattern, names = world
    if name not in names:
      return 0.0
    same = pattern[names.index(name)] == x
    return np.prod(np.where(same, 1 - noise / 2, noise / 2)) / 2

  for row in range(40):
    line = np.append(batch['inputs'][row], batch['targets'][row, -1])
    examples = line.reshape(-1, size + 1) - drawn.FIRST
    x = examples[:, :size] - 3 - 2 * np.arange(size)
    weights = np.ones(len(worlds))
    for n, name in enumerate(examples[:, size]):
      likely = [
        sum(
          w * likelihood(world, x[n], other)
          for w, world in zip(weights, worlds, strict=True)
        )
        for other in range(3)
      ]
      best = np.isclose(likely, max(likely), rtol=1e-9)
      place = n * (size + 1) + size - 1
      assert np.isclose(hits[row, place], best[name] / best.sum())
      weights *= [likelihood(world, x[n], name) for world in worlds]
  assert not hits[batch['shots'] < 0].any()


class Fixed(nn.Module):
  """A model that gives what a function makes of the inputs."""

  INPUTS = ('inputs',)
  function: object

  def __call__(self, inputs):
    return self.function(inputs)


def scored(prompts, function, batch, size):
  model = {'vocab_size': size}
  run = types.SimpleNamespace(
    model=Fixed(function),
    params={},
    data=types.SimpleNamespace(prompts=prompts),
    config=types.SimpleNamespace(model=types.SimpleNamespace(**model)),
    setup=types.SimpleNamespace(mesh=MESH, on_mesh=lambda: jax.set_mesh(MESH)),
  )
  batch = batch | {'weights': (batch['shots'] >= 0).astype('float32')}
  return in_context.score(run, [batch])


MESH = jax.make_mesh((1,), ('data',))


def test_scores_by_shots():
  """Of a model that always says zero, and of one that repeats its input."""
  batch = drawn.linear(PROMPTS, 12, 3, rng())
  found = scored('linear', lambda x: 0 * x[..., :1], batch, 16)
  assert found['prompts'] == PROMPTS
  assert [row['shots'] for row in found['shots']] == [*range(6)]
  for row in found['shots']:
    assert abs(row['score'] - 1) < 5 * row['error']
    assert row['count'] == PROMPTS
  batch = drawn.copying(PROMPTS, 24, 20, rng())
  found = scored('copying', lambda x: jax.nn.one_hot(x, 23), batch, 23)
  assert all(row['score'] == 0 for row in found['shots'])
  assert found['shots'][1]['best'] == 1


def test_a_prompt_that_repeats_itself_is_one_observation():
  once = rng().normal(size=(200, 1))
  error = in_context.standard_error(once, np.full(once.shape, True))
  assert np.isclose(error, once.std() / 200**0.5)
  again = np.tile(once, 8)
  here = np.full(again.shape, True)
  assert np.isclose(in_context.standard_error(again, here), error)
  # Of places that are independent it is that of their number.
  free = rng(1).normal(size=(2000, 8))
  here = rng(2).random(free.shape) < 0.5
  wanted = free[here].std() / here.sum() ** 0.5
  assert abs(in_context.standard_error(free, here) / wanted - 1) < 0.1


@pytest.mark.parametrize('prompts', ['linear', 'copying', 'classification'])
def test_who_sees_the_next_place_is_caught(prompts):
  """What a mask that lets one place too many through makes possible."""
  if prompts == 'linear':
    batch = drawn.linear(500, 12, 3, rng())
  else:
    draw = getattr(drawn, prompts)
    batch = draw(500, 32, 20 if prompts == 'copying' else 2, rng())

  def peek(x):
    later = jnp.roll(x, -1, axis=1)
    return later[..., :1] if x.ndim == 3 else jax.nn.one_hot(later, 60)

  with pytest.raises(ValueError, match='sees what it must predict'):
    scored(prompts, peek, batch, 60)


@pytest.mark.parametrize('arg', ['model=transformer', 'model=rwkv'])
def test_no_place_sees_what_it_must_predict(arg, monkeypatch):
  """Another answer changes nothing before it, and the next prediction."""
  config = recipes.get_config(f'prompts=linear,layers=1,{arg}')
  model = build(TransformerConfig(**config.model))
  batch = drawn.linear(1, 12, config.data.dimensions, rng())
  inputs = jnp.asarray(batch['inputs'], 'float32')
  ones = jnp.ones((1, 12), 'int32')
  own = {'segments': ones}
  if 'positions' in model.INPUTS:
    own['positions'] = jnp.arange(12)[None]
  init = jax.jit(functools.partial(model.init, inputs=inputs, **own))
  params = nn.unbox(init(jax.random.key(0)))
  # RWKV begins with zeros, which let nothing through.
  params = jax.tree.map(
    lambda x: x + 0.1 * rng().standard_normal(x.shape, 'float32'), params
  )

  def changed():
    apply = jax.jit(lambda x: model.apply(params, inputs=x, **own))
    first, second = apply(inputs), apply(inputs.at[:, 5, 0].add(1.0))
    return np.flatnonzero(np.abs(first - second)[0, :, 0] > 1e-6).tolist()

  assert changed() == [*range(5, 12)]
  if 'transformer' in arg:  # the same with a broken mask
    everything = functools.partial(jnp.full, fill_value=True)
    monkeypatch.setattr(masks, 'causal', lambda n: everything((1, n, n)))
    assert changed() == [*range(12)]


def test_a_run_of_vectors_resumes(tmp_path):
  """To the same bits, on eight devices; then it is opened and scored."""
  config = recipes.get_config('prompts=linear,model=rwkv,layers=1')
  config.update_from_flattened_dict({
    'model.embed_dim': 8, 'model.mlp_dim': 8, 'data.batch': 8,
    'data.length': 8, 'train.steps': 4, 'train.log_every': 1,
    'checkpoint.every': 2, 'eval.every': 4, 'eval.batches': 1,
    'schedule.warmup_steps': 1,
  })  # fmt: skip
  folder = str(tmp_path)
  loop.train(config, folder)
  first = opening.open_run(folder)
  shutil.rmtree(tmp_path / 'checkpoints' / '4')
  loop.train(None, folder)
  run = opening.open_run(folder)
  assert run.step == first.step == 4
  jax.tree.map(np.testing.assert_array_equal, run.params, first.params)
  batches = opening.open_data(run).evaluation(run.setup.rows, 8)
  found = in_context.score(run, itertools.islice(batches, 3))
  assert found['prompts'] == 24
  assert [row['shots'] for row in found['shots']] == [0, 1, 2, 3]
  assert found['shots'][3]['best'] < 1e-6 < found['shots'][3]['score']
