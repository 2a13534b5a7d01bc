"""Decoding equals reading all tokens again at every step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoding
from models.build import build
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import random_params
from tests.models.families.test_rwkv import make_config
from tests.models.families.test_rwkv import random_params as random_rwkv

LENGTH = 6


def models():
  for position in ('learned', 'rope', 'alibi', 'transformer_xl'):
    model = build(tiny_decoder(position))
    yield pytest.param(model, random_params(model), id=position)
  model = build(make_config())
  yield pytest.param(model, random_rwkv(model), id='rwkv')


@pytest.mark.parametrize(('model', 'params'), models())
def test_the_likeliest_tokens_are_written(model, params):
  """Prompts have three lengths, padded on the left."""
  rng = np.random.default_rng(0)
  prompts = [[0, *rng.integers(3, 39, n)] for n in (5, 1, 3)]
  source, segments = np.zeros((2, 3, 6), 'int32')
  for row, prompt in enumerate(prompts):
    source[row, 6 - len(prompt) :] = prompt
    segments[row, 6 - len(prompt) :] = 1
  decode = jax.jit(
    decoding.decode, static_argnames=('model', 'length', 'eos', 'vocabulary')
  )
  found = decode(
    params, source, segments, model=model, length=LENGTH, eos=39, vocabulary=40
  )
  read = jax.jit(lambda x: model.apply({'params': params}, x, x * 0 + 1))
  written = np.asarray(found.tokens), np.asarray(found.log_probs)
  rows = zip(*written, prompts, strict=True)
  for row, chances, prompt in rows:
    tokens = list(prompt)
    for token, chance in zip(row, chances, strict=True):
      if token == 0:
        assert tokens[-1] == 39  # it had ended
        break
      whole = np.array([[*tokens, *[0] * (12 - len(tokens))]], 'int32')
      logits = np.asarray(read(whole))[0, len(tokens) - 1]
      assert logits[token] >= logits[:40].max() - 1e-4
      whole = np.log(np.sum(np.exp(logits.astype('float64'))))
      assert chance == pytest.approx(logits[token] - whole, abs=1e-4)
      tokens.append(int(token))


@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
def test_room_ends_where_learned_positions_end(family):
  """The longest text that `room` allows has finite logits; a longer has not."""
  pair = family == 'encoder_decoder'
  model = build(
    tiny_decoder(
      'learned',
      family=family,
      max_length=8,
      decoder_layers=1,
      encoder_layers=int(pair),
    )
  )
  params = random_params(model)
  source = np.array([[5, 6, 7]])
  segments = np.ones_like(source)
  most = decoding.room(model.config, segments)
  assert most == (8 if pair else 8 - 3 + 1)

  def finite(length):
    """Whether the logits of every step are finite, token by token."""
    apply = functools.partial(model.apply, {'params': params})
    if pair:
      encoded = apply(source, segments, method='encode')
      cache = model.start_cache(1, length)
      read = [(np.array([[0]]), jnp.int32(i), segments) for i in range(length)]
      rest = [encoded]
    else:
      cache = model.start_cache(1, 3 + length)
      hidden = np.zeros([1, 3 + length], bool)
      read = [(source, jnp.int32(0), np.arange(3)[None], hidden)]
      for i in range(1, length):
        at = np.array([[2 + i]])
        read.append((np.array([[5]]), jnp.int32(2 + i), at, hidden))
      rest = []
    good = True
    for tokens, index, *more in read:
      logits, cache = apply(
        tokens, cache, index, *more, *rest, method='decode_step'
      )
      rest = []
      good = good and bool(np.isfinite(logits).all())
    return good

  assert finite(most)
  assert not finite(most + 1)
  with pytest.raises(ValueError, match='text has 9 tokens.* positions for 8'):
    decoding.room(model.config, np.ones([1, 9]))
  assert decoding.room(tiny_decoder('rope'), np.ones([1, 9])) is None
