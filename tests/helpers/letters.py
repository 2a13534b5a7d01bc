"""A tokenizer of letters, for models with random weights."""

import numpy as np

LETTERS = 'abcdefghijklmnopqrstuvwxyz 0123456789'


class Letters:
  """A token for each letter, from 3 on; EOS is 1."""

  pad, eos, unk = 0, 1, 2
  size = 3 + len(LETTERS)
  sentinels = ()
  reads_sentinels = False

  def encode_batch(self, texts):
    return [
      np.array([3 + LETTERS.index(x) for x in text.decode()], 'int32')
      for text in texts
    ]

  def decode(self, ids):
    return ''.join(LETTERS[i - 3] for i in ids if i >= 3)
