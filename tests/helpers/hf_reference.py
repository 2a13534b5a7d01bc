"""transformers' torch models with random weights, for the parity tests."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict

from models import pretrained
from models.build import build
from models.pretrained.arrays import leaf_shapes
from models.pretrained.mapping import expand

LOGITS = 1e-5  # of the largest logit
GRADIENTS = 1e-4  # of the norm of the gradient


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
  """Makes every weight nonzero and unlike its neighbours, in place."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for p in model.parameters():
      noise = torch.randn(p.shape, generator=generator)
      if p.ndim == 1:  # scales around 1, biases around 0.3
        p.copy_((1 if p.mean() > 0.5 else 0.3) + 0.2 * noise)
      else:
        p.copy_(noise * p.shape[-1] ** -0.5)
  return model.eval()


def saved(model: torch.nn.Module, folder) -> str:
  """Saves the model as transformers does; returns the folder."""
  model.save_pretrained(str(folder))
  return str(folder)


def close(ours, theirs, real=None) -> float:
  """Asserts outputs equal where `real`; returns the largest difference.

  Differences are in units of the largest output.
  """
  ours = np.asarray(ours)
  if isinstance(theirs, torch.Tensor):
    theirs = theirs.detach().numpy()
  assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
  if real is not None:
    ours, theirs = ours[real], theirs[real]
  scale = np.abs(theirs).max()
  assert scale > 0.05, scale
  error = float(np.abs(ours - theirs).max() / scale)
  assert error <= LOGITS, error
  return error


def under_their_names(config, tree, layout) -> dict[str, np.ndarray]:
  """Our parameters, or their gradients, by transformers' names."""
  flat = flatten_dict(tree, sep='/')
  out = {}
  for piece in expand(layout.weights(config), config, leaf_shapes(config)):
    x = out.setdefault(piece.theirs, np.zeros(piece.their_shape, 'float32'))
    ours = flat[piece.leaf]
    ours = ours if piece.layer is None else ours[piece.layer]
    piece.copy_out(np.asarray(ours), x)
  return out


def gradients_close(config, grads, model, layout, unused=()) -> float:
  """Asserts that all gradients are equal; returns the largest difference.

  Differences are in units of the norm of a weight's gradient. The loss does not
  reach the weights `unused`.
  """
  ours = under_their_names(config, grads, layout)
  worst, seen = 0.0, set()
  # The names of a body alone have no prefix.
  own = dict(model.named_parameters())
  prefix = (
    '' if any(n.startswith(layout.PREFIX) for n in own) else layout.PREFIX
  )
  total = np.sqrt(sum(np.sum(np.square(x)) for x in ours.values()))
  for name, p in own.items():
    name = name if name in ours else prefix + name
    assert name in ours, name
    seen.add(name)
    if p.grad is None:
      assert name in unused or not np.any(ours[name]), name
      continue
    theirs = p.grad.numpy()
    norm = np.linalg.norm(theirs)
    error = np.linalg.norm(ours[name] - theirs)
    if norm < 1e-6 * total:  # a key's bias, which the softmax cancels
      assert error < 1e-6 * total, (name, error, total)
      continue
    assert error <= GRADIENTS * norm, (name, error / norm)
    worst = max(worst, float(error / norm))
  assert seen == ours.keys(), seen ^ ours.keys()
  return worst


def outputs_and_gradients(config, params, inputs, loss):
  """Our outputs, and the gradients of `loss(outputs)`, at full precision."""
  model = build(config)

  def run(params):
    outputs = model.apply({'params': params}, **inputs)
    return loss(outputs), outputs

  with jax.default_matmul_precision('highest'):
    grads, outputs = jax.jit(jax.grad(run, has_aux=True))(params)
  return outputs, grads


def projection(shape, seed: int = 5, real=None) -> np.ndarray:
  """Random factors that make a loss of outputs; 0 where not `real`."""
  x = np.random.default_rng(seed).normal(size=shape).astype('float32')
  if real is not None:
    x = x * real.reshape(*real.shape, *[1] * (x.ndim - real.ndim))
  return x / np.sqrt(x.size)


def weighted(outputs: dict, factors: dict):
  """The loss: the sum of outputs times factors, in jax or torch."""
  total = 0.0
  for name, factor in factors.items():
    x = outputs[name]
    if isinstance(x, torch.Tensor):
      total = total + (x * torch.from_numpy(factor)).sum()
    else:
      total = total + jnp.sum(x * factor)
  return total


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> None:
  """Asserts that two torch models have the same bits under the same names."""
  a, b = a.state_dict(), b.state_dict()
  assert a.keys() == b.keys(), a.keys() ^ b.keys()
  for name in a:
    assert torch.equal(a[name], b[name]), name


def round_trip(model: torch.nn.Module, folder, tmp_path, layout='') -> None:
  """Loads, saves, and has transformers load the result: all bits survive."""
  config, params = pretrained.load(folder)
  again = str(tmp_path / 'again')
  pretrained.save(config, params, again, layout=layout)
  loaded, info = type(model).from_pretrained(again, output_loading_info=True)
  for problem in ('missing_keys', 'unexpected_keys', 'mismatched_keys'):
    assert not info[problem], (problem, info[problem])
  same_state(model, loaded)
  config_again, params_again = pretrained.load(again)
  assert config_again == config
  for x, y in zip(
    jax.tree.leaves(params), jax.tree.leaves(params_again), strict=True
  ):
    np.testing.assert_array_equal(x, y)
