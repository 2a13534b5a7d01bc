"""Rollouts: prompts of a batch, the answers that the policy writes to them.

The answers are drawn by `models.decoding` at temperature 1, from the policy's
own distribution, in this process. What is drawn depends on the parameters, the
run's seed, the step, the row of the batch and the number of the answer alone.

Letters: B prompts, G answers to each, N = B G; a source of S tokens, at most T
tokens of an answer. Answers to one prompt are side by side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.config import TransformerConfig
from models.sampling import Sampling
from models.stack import written_out
from train.generation import programs
from train.parallel import sharding
from train.setup import Setup

DRAWN = Sampling(temperature=1.0)
_DOMAIN = 0x507  # of the seed, beside dropout's and the parameters'


class Prompts(NamedTuple):
  """Prompts as `decoding.decode` reads them, and what should be answered.

  Attributes:
    source: int32 [B,S], on the left of a decoder's row is padding.
    segments: int32 [B,S], 1 where there is a token.
    targets: int32 [B,L], with the end of the text.
    target_segments: int32 [B,L].
  """

  source: Any
  segments: Any
  targets: Any
  target_segments: Any


class Answers(NamedTuple):
  """What is written.

  Attributes:
    tokens: int32 [N,T], 0 after the end.
    log_probs: float32 [N,T], the sampler's, of each token; 0 after the end.
    read: bool [N,T], the tokens up to the one that ends the text.
  """

  tokens: Any
  log_probs: Any
  read: Any


def prompts_of(batch: dict[str, jax.Array]) -> Prompts:
  """The prompts of a batch that has one example in each row.

  What is predicted is the target, and what comes before it the prompt. Of two
  answers that are compared the first one, which was chosen, is the target.
  """
  batch = {
    k: x[:, 0] if x.ndim == 3 else x for k, x in batch.items() if k != 'cursor'
  }
  wanted = batch['weights'] > 0
  targets = jnp.where(wanted, batch['targets'], 0)
  if 'encoder_inputs' in batch:
    read = batch['encoder_segments'] > 0
    source = jnp.where(read, batch['encoder_inputs'], 0)
  else:
    length = wanted.shape[1]
    # The first target is predicted at the place of the prompt's last token.
    taken = jnp.argmax(wanted, axis=1, keepdims=True) + 1
    taken = jnp.where(jnp.any(wanted, axis=1, keepdims=True), taken, 0)
    at = jnp.arange(length) + taken - length
    read = at >= 0
    source = jnp.take_along_axis(batch['inputs'], jnp.maximum(at, 0), axis=1)
    source = jnp.where(read, source, 0)
  return Prompts(source, read.astype('int32'), targets, wanted.astype('int32'))


def seed_of(seed: int, step: int) -> int:
  """The seed of the answers that are written after `step` updates."""
  drawn = np.random.SeedSequence([seed, _DOMAIN, step])
  return int(drawn.generate_state(1)[0] >> 1)  # as train.generate takes them


def make_sampler(
  setup: Setup, fixed: programs.Fixed, samples: int, length: int
) -> Callable[[Any, Prompts, int], Answers]:
  """(the model's parameters, prompts, seed) -> answers, on this host.

  Args:
    setup: of the run.
    fixed: its model, and the ids that begin and end a text.
    samples: G.
    length: T.
  """
  rules = sharding.whole_lengths(setup.rules)

  def placed(**arrays):
    size = len(arrays['source'])
    own = setup.rows_of(size)
    arrays = {name: x[own] for name, x in arrays.items()}
    return sharding.global_batch(arrays, own, setup.mesh, size).values()

  def sample(params: Any, prompts: Prompts, seed: int) -> Answers:
    # A row without a prompt reads one token, so that it has a last one.
    segments = np.array(prompts.segments)
    segments[~segments.any(axis=1), -1] = 1
    numbers = np.arange(len(segments), dtype=np.int32)
    source = placed(source=prompts.source, segments=segments, numbers=numbers)
    with jax.set_mesh(setup.mesh), nn.logical_axis_rules(rules):
      model, params = written_out(fixed.model, params)
      begin, advance = programs.stepwise(fixed._replace(model=model), DRAWN)
      state = begin(
        params, *source, np.uint32(seed), length=length, copies=samples
      )
      state = advance(params, state, np.int32(length))
    tokens, log_probs = jax.device_get(state[1:3])
    return Answers(tokens, log_probs, before_end(tokens, fixed.eos))

  return sample


def before_end(tokens: np.ndarray, eos: int) -> np.ndarray:
  """bool [N,T]: the tokens up to the first `eos`, which is one of them."""
  ends = np.cumsum(tokens == eos, axis=1) - (tokens == eos)
  return ends == 0


def rows_of(
  config: TransformerConfig, prompts: Prompts, answers: Answers, start: int
) -> dict[str, np.ndarray]:
  """What the model reads to give the answers' tokens their probabilities.

  Args:
    config: the model's.
    prompts, answers: G answers to each prompt.
    start: what the decoder of an encoder-decoder reads first.

  Returns:
    The model's inputs, `targets` and `read`, [N,...] each. `read` is true at
    the places that predict the answer, which `answered` finds.
  """
  copies = len(answers.tokens) // len(prompts.source)
  source, segments = (
    np.repeat(x, copies, axis=0) for x in (prompts.source, prompts.segments)
  )
  tokens, read = answers.tokens, answers.read
  N, T = tokens.shape
  if config.family == 'encoder_decoder':
    arrays = {
      'encoder_inputs': source,
      'encoder_segments': segments,
      'encoder_positions': _counted(segments),
      'inputs': np.concatenate([np.full((N, 1), start), tokens[:, :-1]], 1),
      'segments': read.astype('int32'),
      'targets': tokens,
      'read': read,
    }
  else:
    S = source.shape[1]
    none = np.zeros((N, S - 1), 'int32')
    last = np.zeros((N, 1), 'int32')
    arrays = {
      'inputs': np.concatenate([source, tokens], axis=1),
      'segments': np.concatenate([segments, read], axis=1),
      'prefix': np.concatenate([segments, 0 * tokens], axis=1),
      'targets': np.concatenate([none, tokens, last], axis=1),
      'read': np.concatenate([none, read, last], axis=1).astype(bool),
    }
  arrays['positions'] = _counted(arrays['segments'])
  kinds = {'read': 'bool'}
  return {k: x.astype(kinds.get(k, 'int32')) for k, x in arrays.items()}


def answered(config: TransformerConfig, x: Any, length: int) -> Any:
  """The places of the answer, [N,T], of an array as `rows_of` lays it out."""
  if config.family == 'encoder_decoder':
    return x
  first = x.shape[1] - length - 1
  return x[:, first : first + length]


def spread(config: TransformerConfig, x: jax.Array, width: int) -> jax.Array:
  """The inverse of `answered`: [N,T] -> [N,width], 0 elsewhere."""
  if config.family == 'encoder_decoder':
    return x
  first = width - x.shape[1] - 1
  return jnp.pad(x, [(0, 0), (first, 1)])


def _counted(segments):
  """Places from 0 on in a row of one text, which may begin with padding."""
  return np.maximum(np.cumsum(segments, axis=1) - 1, 0)
