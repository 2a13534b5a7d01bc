"""Texts to ids and back, and the inputs of samples: train.generate."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.decoders import tiny_decoder
from tests.helpers.objectives import masked_config
from train import generate, prompts


def test_the_first_half_of_a_text_is_the_prompt():
  inputs = np.array([[0, 5, 6, 7, 0, 8], [0, 9, 0, 0, 0, 0], [0] * 6], 'int32')
  targets = np.array([[5, 6, 7, 1, 8, 1], [9, 1, 0, 0, 0, 0], [0] * 6], 'int32')
  segments = np.array([[1] * 4 + [2] * 2, [1, 1, 0, 0, 0, 0], [0] * 6])
  batch = {'inputs': inputs, 'targets': targets, 'segments': segments}
  found = prompts.first_examples(batch, 3)
  assert found['source'].tolist() == [
    [0, 0, 0, 0, 5, 6],
    [0, 0, 0, 0, 0, 9],
    [0] * 6,
  ]
  assert found['segments'].tolist() == [
    [0, 0, 0, 1, 1, 1],
    [0, 0, 0, 0, 1, 1],
    [0] * 6,
  ]
  assert found['targets'].tolist() == [
    [0, 0, 7, 1, 0, 0],
    [0, 1, 0, 0, 0, 0],
    [0] * 6,
  ]
  assert found['target_segments'].tolist() == [
    [0, 0, 1, 1, 0, 0],
    [0, 1, 0, 0, 0, 0],
    [0] * 6,
  ]
  # Rows of padding come last.
  turned = {name: x[::-1] for name, x in batch.items()}
  found = prompts.first_examples(turned, 2)
  assert found['targets'].tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 7, 1, 0, 0]]
  # Where a part of it is the input, that is the prompt.
  batch['prefix'] = np.array([[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0], [0] * 6])
  found = prompts.first_examples(batch, 3)
  assert found['source'].tolist()[0] == [0, 0, 0, 0, 0, 5]
  assert found['targets'].tolist()[:2] == [
    [0, 6, 7, 1, 0, 0],
    [9, 1, 0, 0, 0, 0],
  ]


def test_texts_as_a_decoder_reads_them():
  tokenizer = Numbers(300, 0)
  texts = {b'0': [7, 8, 9], b'1': [7], b'': []}
  tokenizer.encode_batch = lambda given: [
    np.array(texts[t], int) for t in given
  ]
  found = prompts.encode(tokenizer, ['0', '1'], 5, 'decoder', False, 0)
  assert found['source'].tolist() == [[0, 0, 7, 8, 9], [0, 0, 0, 0, 7]]
  assert found['segments'].tolist() == [[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
  found = prompts.encode(tokenizer, ['0', '1'], 5, 'decoder', False, 8)
  assert found['source'].tolist() == [[0, 8, 7, 8, 9], [0, 0, 0, 8, 7]]
  found = prompts.encode(tokenizer, ['0', '1'], 5, 'decoder', False, None)
  assert found['source'].tolist() == [[0, 0, 7, 8, 9], [0, 0, 0, 0, 7]]
  pairs = prompts.encode(tokenizer, ['1', '1'], 5, 'decoder', True, 0)
  assert pairs['source'].tolist() == [[0, 0, 0, 7, 1]] * 2
  pairs = prompts.encode(tokenizer, ['1', '0'], 5, 'encoder_decoder', True, 0)
  assert pairs['source'].tolist() == [[7, 1, 0, 0, 0], [7, 8, 9, 1, 0]]
  with pytest.raises(ValueError, match='1 sentinels.* it has none'):
    prompts.encode(tokenizer, ['0<extra_id_0>'], 5, 'decoder', False, 0)


def test_texts_are_shown_whole():
  """A word's id may be 0, at either end; rows of padding are not shown."""

  class Letters:
    eos = 1

    def decode(self, ids):
      return ''.join('!.abcdefgh'[i] for i in ids if i != self.eos)

  examples = {
    'source': np.array([[9, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    'segments': np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]),
    'targets': np.array([[0, 0, 3, 0], [0, 0, 0, 0], [4, 1, 0, 0]]),
    'target_segments': np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]),
  }
  predicted = np.array([[0, 5, 0, 0], [2, 2, 2, 2], [0, 1, 0, 0]])
  assert prompts.show(Letters(), examples, predicted).split('\n') == [
    'input:      !a!',
    'target:     !b!',
    'prediction: !d!!',
    '',
    'input:      !!',
    'target:     c',
    'prediction: !',
    '',
  ]


def test_white_space_around_a_prompt_counts():
  tokenizer = Numbers(300, 0)
  tokenizer.encode_batch = lambda given: [np.frombuffer(t, 'u1') for t in given]
  for text in (' a', 'a ', '\ta\n', '  '):
    found = prompts.encode(tokenizer, [text], 5, 'decoder', False, 0)
    ids = found['source'][0][found['segments'][0] > 0][1:]
    assert bytes(ids.astype('u1')).decode() == text


def test_a_file_of_texts(tmp_path):
  """A byte order mark is no part of the first; white space in a line is."""
  path = tmp_path / 'texts'
  path.write_bytes('\ufeff été \r\n\n  \nb\n'.encode())
  assert generate.read_texts(str(path)) == [' été ', 'b']
  for text, message in (
    (b'a\ncaf\xe9\n', 'line 2 is not UTF-8'),
    (b'\n \n', 'holds no text'),
    ('a'.encode('utf-16'), 'is UTF-16'),
  ):
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message) as raised:
      generate.read_texts(str(path))
    assert str(path) in str(raised.value)


@pytest.fixture
def decoded(monkeypatch):
  """The lengths that were decoded, none of them by a model."""
  lengths = []

  def decode(params, source, *rest, length, **_):
    lengths.append(length)
    return jnp.zeros([len(source), length], 'int32')

  monkeypatch.setattr(generate.decoding, 'decode', decode)
  return lengths


def run_of(position, tokenizer):
  """A model of 8 positions, if any, that reads rows of 12 tokens."""
  mesh = jax.sharding.Mesh(jax.devices()[:1], 'data')
  places = {'max_length': 8} if position == 'learned' else {}
  model = types.SimpleNamespace(config=tiny_decoder(position, **places))
  data = masked_config('causal', length=12)
  setup = types.SimpleNamespace(model=model, mesh=mesh, data=data)
  return types.SimpleNamespace(
    model=model, setup=setup, data=data, params={}, tokenizer=tokenizer,
    start_id=0,
  )  # fmt: skip


def test_a_length_beyond_the_learned_positions(monkeypatch, decoded):
  """A start and three tokens leave positions for 5 more."""
  tokenizer = Numbers(300, 0)
  tokenizer.encode_batch = lambda given: [np.array([7, 8, 9]) for _ in given]
  tokenizer.decode = str
  opening = generate.opening
  monkeypatch.setattr(opening, 'open_tokenizer', lambda _: tokenizer)
  for position, length, may in (
    ('learned', 5, True),
    ('learned', 6, False),
    ('learned', 0, False),  # half of a row, 6
    ('rope', 9, True),
  ):
    run = run_of(position, tokenizer)
    run.data = masked_config('causal', source='docs', length=12)
    monkeypatch.setattr(opening, 'open_run', lambda *_, run=run: run)
    if may:
      generate.generate('W', texts=['a'], length=length)
      assert decoded.pop() == length
      continue
    message = f'of {length or 6} tokens .*: model.max_length=8 .* for 5 after'
    with pytest.raises(ValueError, match=message):
      generate.generate('W', texts=['a'], length=length)
  assert not decoded


@pytest.mark.parametrize(('position', 'length'), [('learned', 4), ('rope', 6)])
def test_samples_in_training_end_with_the_positions(decoded, position, length):
  """Half of a row of 12 is decoded, or what 5 tokens of a prompt leave of 8."""
  tokenizer = Numbers(300, 0)
  tokenizer.decode = str
  run = run_of(position, tokenizer)
  sample = generate.make_sampling(run.setup, run, 1)
  row = np.arange(12)[None] + 5
  segments = (np.arange(12)[None] < 8).astype('int32')
  batch = {'inputs': row, 'targets': row + 1, 'segments': segments}
  assert 'prediction' in sample({}, batch, run.data)
  assert decoded == [length]
