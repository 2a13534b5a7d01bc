"""Texts to ids and back, and the inputs of samples."""

import numpy as np
import pytest

from input_pipeline.tokenizers.numbers import Numbers
from train.generation import prompts


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


def test_gaps_are_filled():
  text = 'A <extra_id_0> sat on<extra_id_1>.'
  answer = '<extra_id_0> big cat <extra_id_1> it <extra_id_2>'
  assert prompts.infilled(text, answer) == 'A big cat sat onit.'
  assert prompts.infilled(text, '<extra_id_1>it') == 'A <extra_id_0> sat onit.'
  assert prompts.infilled(text, 'nothing') == text


def test_gaps_beyond_the_sentinels_of_a_vocabulary():
  """With data.borrow_sentinels pieces mark them; by name in texts."""
  tokenizer = Numbers(300, 2)
  tokenizer.encode_batch = lambda given: [
    np.frombuffer(x.strip(), 'u1').astype(int) for x in given
  ]
  tokenizer.decode = lambda ids: ' '.join(
    f'<extra_id_{299 - i}>' if i > 297 else chr(i) for i in ids
  )
  sentinels = np.arange(299, 2, -1)
  text = 'a <extra_id_0>b<extra_id_1> <extra_id_2>c <extra_id_3>'
  ids = prompts.text_ids(tokenizer, text, sentinels)
  assert ids.tolist() == [97, 299, 98, 298, 297, 99, 296]
  with pytest.raises(ValueError, match='4 sentinels.* knows 2; .*<extra_id_1>'):
    prompts.text_ids(tokenizer, text)
  with pytest.raises(ValueError, match='1 sentinels, .* to <extra_id_296>'):
    prompts.text_ids(tokenizer, '<extra_id_297>', sentinels)
  # A piece is a sentinel where its turn comes, and only there.
  answer = [296, 299, 97, 298, 296, 297, 98, 297, 296, 99]
  assert prompts.decoded(tokenizer, answer, sentinels) == (
    f'{chr(296)} <extra_id_0> a <extra_id_1> {chr(296)} <extra_id_2> '
    f'b {chr(297)} <extra_id_3> c'
  )
  assert prompts.decoded(tokenizer, answer) == tokenizer.decode(answer)
  few = [299, 97, 297]  # no <extra_id_1>, and so none after it
  assert prompts.decoded(tokenizer, few, sentinels) == tokenizer.decode(few)
  shown = prompts.decoded(tokenizer, [299, 120, 298, 121, 297, 122], sentinels)
  assert prompts.infilled('<extra_id_1> <extra_id_2>', shown) == 'y z'
