"""SentencePiece's kinds as a tokenizer.json: unigram, and BPE of characters.

So does transformers 5 save the tokenizers of T5 and LLaMA, without the .model.
"""

import functools
import re

import numpy as np

from input_pipeline.tokenizers import scripts
from input_pipeline.tokenizers.subwords import Subwords

BYTE = re.compile(r'<0x([0-9A-F]{2})>')


class Pieces(Subwords):
  """Pieces in which '▁' stands for a space, by the tokenizers library.

  The ids are those that the file gives, which may differ from those of the
  .model that it was made of: the library merges and normalizes in ways of its
  own. No special id is made from text, the sentinels' included.
  """

  def __init__(self, content, sentinels, name='data.tokenizer'):
    super().__init__(content, sentinels, name)
    if self.mask is None:  # <s> and </s> begin and end a text, and no more
      self.cls = self.sep = None
    elif self.pieces[self.mask] == '<mask>':
      self.masking = '<s>', '</s>', '<mask>'

  @staticmethod
  def _spaces_part(content):
    return False  # normalizers join spaces, or pieces have several

  @staticmethod
  def _for_text(content, special):
    """The content, special pieces renamed so that no text has them.

    A unigram model finds every piece of its list in a text. None has a space:
    they become '▁' before it looks.
    """
    model = content['model']
    if isinstance(model['vocab'], dict):  # only merges make a piece
      return content
    vocab = [
      [f' {piece} ' if piece in special else piece, score]
      for piece, score in model['vocab']
    ]
    return content | {'model': model | {'vocab': vocab}}

  @functools.cached_property
  def _texts(self):
    texts = []
    for piece in self.pieces:
      byte = BYTE.fullmatch(piece) if self._byte_fallback else None
      text = piece.replace('▁', ' ').encode()
      texts.append(bytes([int(byte[1], 16)]) if byte else text)
    return texts

  def piece(self, i):
    name = self.pieces[i]
    return name.removeprefix('▁') if i in self.sentinels else name

  def decode(self, ids):
    parts, run = [], []
    for i in map(int, ids):
      if i not in self.shown:
        run.append(self.pieces[i])
      elif self.shown[i]:
        parts += [self._join(run), self.shown[i]]
        run = []
    return ' '.join(filter(None, [*parts, self._join(run)]))

  def _join(self, names):
    if self._encoder.decoder is None:
      return ''.join(names).replace('▁', ' ')
    return self._encoder.decoder.decode(names)

  def _begin_words(self):
    starts = np.array(
      [
        piece.startswith('▁') or scripts.begins_unspaced(scripts.spelled(piece))
        for piece in self.pieces
      ]
    )
    starts[list(self.specials)] = True
    if self.unk is not None:
      starts[self.unk] = False
    return starts
