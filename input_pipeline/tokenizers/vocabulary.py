"""What tokenizers of every kind have in common: text <-> ids."""

import abc
import functools

import numpy as np


class Vocabulary(abc.ABC):
  """The interface of a tokenizer, and what follows from its ids.

  Attributes:
    size: number of ids, sentinels included.
    pad: what a decoder starts with (T5's pad). A vocabulary without padding
      has its BOS here, or else its EOS, as GPT-2. It need not be 0: the arrays
      of a batch hold 0 where there is nothing, which segment 0 marks.
    bos, eos, unk, cls, sep, mask: ids, None where there are none.
    sentinels: int32 ids in order of use, as T5's <extra_id_0>, <extra_id_1>.
    fingerprint: a hash of all that decides ids.
    model: bytes of a file that holds the tokenizer.
    file: the name of that file in a workdir.

  Texts are UTF-8 bytes (or str); what is no UTF-8 reads U+FFFD. Special ids are
  never made from text, whatever it says, but for those SentencePiece pieces
  that a model declares to be text (T5's sentinels). No special id is added.
  """

  pad, bos, eos, unk, cls, sep, mask = 0, None, None, None, None, None, None
  sentinels = np.zeros(0, np.int32)
  masking = '[CLS]', '[SEP]', '[MASK]'  # names of cls, sep and mask
  reads_sentinels = False  # whether <extra_id_0> in a text is a sentinel

  @abc.abstractmethod
  def encode_batch(self, texts, threads=1):
    """Texts -> one int32 array of ids each, on `threads` threads outside the
    interpreter lock."""

  @abc.abstractmethod
  def decode(self, ids):
    """Ids -> text. Padding, BOS and EOS are left out; cls, sep, mask and
    sentinels are shown by name."""

  @abc.abstractmethod
  def piece(self, i):
    """The vocabulary's name of an id: '▁the', '##ing', 'Ġthe', '[MASK]'."""

  @abc.abstractmethod
  def byte_lengths(self):
    """UTF-8 bytes of text that each id stands for, int32 [size].

    A word's leading space counts. Special ids and unknown text have 0.
    """

  def word_starts(self):
    """Whether each id begins a word, bool [size].

    True for special ids, but not for the unknown one. Where a script puts no
    space between words each piece of it is one, as each Chinese character is in
    BERT's release: see scripts."""
    return self._word_starts

  @functools.cached_property
  def _word_starts(self):
    return self._begin_words()

  def _begin_words(self):
    return np.ones(self.size, bool)

  @functools.cached_property
  def specials(self):
    """Ids that stand for no text, sorted: never drawn in place of a word."""
    ids = {self.pad, self.bos, self.eos, self.unk, self.cls, self.sep}
    ids |= {self.mask, *self.sentinels.tolist()}
    return tuple(sorted(ids - {None}))

  @functools.cached_property
  def shown(self):
    """What decode() writes for special ids: a name, or nothing."""
    ends = {i: '' for i in (self.pad, self.bos, self.eos) if i is not None}
    named = {self.cls, self.sep, self.mask, *self.sentinels.tolist()} - {None}
    return ends | {i: self.piece(i) for i in named}


def find_sentinels(ids):
  """Ids of <extra_id_0>, <extra_id_1>, ... as far as the names go on.

  >>> find_sentinels({'a': 0, '<extra_id_1>': 1, '<extra_id_0>': 2}).tolist()
  [2, 1]
  """
  found = []
  while (name := f'<extra_id_{len(found)}>') in ids:
    found.append(ids[name])
  return np.array(found, np.int32)


def check_sentinels(found, wanted, name):
  """Raises ValueError unless there are as many as data.sentinels."""
  if len(found) < wanted:
    raise ValueError(
      f'{name} has {len(found)} <extra_id_N> pieces, but'
      f' data.sentinels={wanted}: take a vocabulary without any, to which they'
      " are added (T5's is published so, with 32,000 pieces), or lower it, and"
      ' data.length with it where rows need more.'
    )
