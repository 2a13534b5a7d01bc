"""Framing: the special tokens around and between the texts of an example.

  bert     [CLS] a b [SEP]    [CLS] a b [SEP] c d [SEP]       Devlin et al. 2019
  types      0   0 0   0        0   0 0   0   1 1   1         3.2 and 4
  roberta  <s> a b </s>       <s> a b </s> </s> c d </s>      Liu et al. 2019
  gpt1     start a b extract  start a b delimiter c d extract Radford et al.
                                                              2018, 3.3
Texts that do not fit are cut as in the published codes: a pair loses tokens at
the end of its longer text, or of the second if both are equally long.
"""

from collections.abc import Sequence

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.tokenizers.interface import Tokenizer


def frame(
  texts: Sequence[np.ndarray], tokenizer: Tokenizer, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, bool]:
  """Ids of one or two texts, int [n] each -> a line, its types, was it cut?

  Line and types are int32 [L]; L is at most data.length.
  """
  first, middle, last = _marks(tokenizer, config)
  marks = len(first) + len(last) + len(middle) * (len(texts) - 1)
  texts, cut = shorten(texts, config.length - marks)
  parts = [first, texts[0]]
  if len(texts) == 2:
    parts += [middle, texts[1]]
  line = np.concatenate([*parts, last]).astype(np.int32)
  types = np.zeros(len(line), np.int32)
  if len(texts) == 2:
    types[sum(map(len, parts[:3])) :] = 1
  return line, types, cut


def closing(tokenizer: Tokenizer, config: DataConfig) -> int:
  """How many tokens end a line."""
  return len(_marks(tokenizer, config)[2])


def _marks(tokenizer, config):
  """The tokens before the first text, between two, and after the last."""
  cls, sep = tokenizer.cls, tokenizer.sep
  match config.framing:
    case 'bert':
      return [cls], [sep], [sep]
    case 'roberta':
      return [cls], [sep, sep], [sep]
    case 'gpt1':  # three rows of the table that no piece has
      size = tokenizer.size
      return [size], [size + 1], [size + 2]
  raise ValueError(
    f'data.framing={config.framing!r} frames no text: set it to bert, roberta '
    'or gpt1.'
  )


def shorten(
  texts: Sequence[np.ndarray], room: int
) -> tuple[list[np.ndarray], bool]:
  """The texts, at most `room` tokens together, and whether any was cut.

  >>> [len(x) for x in shorten([np.arange(9), np.arange(4)], 10)[0]]
  [6, 4]
  """
  sizes = [len(text) for text in texts]
  while sum(sizes) > room:
    sizes[0 if len(sizes) == 1 or sizes[0] > sizes[1] else 1] -= 1
  cut = sizes != [len(text) for text in texts]
  return [x[:size] for x, size in zip(texts, sizes, strict=True)], cut
