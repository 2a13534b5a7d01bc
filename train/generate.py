"""Greedy decoding with a cache that is passed in and out."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def greedy(
  params: Any,
  encoder_inputs: jax.Array,
  encoder_segments: jax.Array,
  *,
  model: nn.Module,
  length: int,
  eos: int,
  start: int = 0,
) -> jax.Array:
  """The likeliest token, step by step, until `eos`.

  Args:
    params: of an encoder-decoder.
    encoder_inputs: int [B,S].
    encoder_segments: int [B,S], above 0 where there is a token.
    model: the encoder-decoder.
    length: T, how many tokens at most.
    eos: ends a row; what follows it is 0.
    start: what the decoder reads first; T5 takes padding.

  Returns:
    int32 [B,T].
  """

  def step(tokens, cache, index, encoded=None):
    logits, cache = model.apply(
      {'params': params},
      tokens,
      cache,
      index,
      encoder_segments,
      encoded,
      method='decode_step',
    )
    return jnp.argmax(logits, axis=-1).astype('int32'), cache

  def advance(carry, index):
    tokens, done, cache = carry
    new, cache = step(tokens, cache, index)
    new = jnp.where(done, 0, new)
    return (new, done | (new == eos), cache), new

  encoded = model.apply(
    {'params': params}, encoder_inputs, encoder_segments, method='encode'
  )
  batch = encoder_inputs.shape[0]
  cache = model.start_cache(batch, length)
  first = jnp.full(batch, start, 'int32')
  tokens, cache = step(first, cache, jnp.int32(0), encoded)
  carry = (tokens, tokens == eos, cache)
  _, rest = jax.lax.scan(advance, carry, jnp.arange(1, length))
  return jnp.concatenate([tokens[:, None], rest.T], axis=1)


def first_examples(batch: dict[str, jax.Array], rows: int) -> dict:
  """The first example of each of the first rows, the rest of a row padded."""
  result = {}
  for name, segments in (
    ('encoder_inputs', 'encoder_segments'),
    ('targets', 'segments'),
  ):
    own = batch[segments][:rows] == 1
    result[name] = jnp.where(own, batch[name][:rows], 0)
    result[segments] = own.astype('int32')
  return result


def show(tokenizer: Any, examples: dict, predicted: np.ndarray) -> str:
  """Inputs, targets and predictions as text, row by row."""

  def text(tokens):
    return tokenizer.decode([int(token) for token in tokens if token])

  lines = []
  for inputs, targets, tokens in zip(
    examples['encoder_inputs'], examples['targets'], predicted, strict=True
  ):
    lines += [
      f'input:      {text(inputs)}',
      f'target:     {text(targets)}',
      f'prediction: {text(tokens)}',
      '',
    ]
  return '\n'.join(lines)
