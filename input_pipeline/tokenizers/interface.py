"""The interface of every tokenizer: text <-> ids, and what a config asks of it.

The kinds are in kinds.py.
"""

import abc
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from input_pipeline.config import DataConfig

Texts = Sequence[bytes | str]
PADDING = 1024  # the model's table may have fewer unused rows than this


class Tokenizer(abc.ABC):
  """A tokenizer of any kind.

  Attributes:
    size: number of ids, sentinels included.
    pad: the id that a decoder starts with, as in T5. A vocabulary without
      padding has its BOS here, or else its EOS, as GPT-2. It need not be 0:
      empty places of a batch hold 0, and segment 0 marks them.
    bos, eos, unk, cls, sep, mask: ids; None if the vocabulary lacks one.
    sentinels: int32 ids in order of use, as T5's <extra_id_0>, <extra_id_1>.
    fingerprint: a hash of everything that decides the ids of a text.
    model: bytes of a file that holds the tokenizer.
    file: the name of that file in a workdir.

  Texts are UTF-8 bytes or str; invalid UTF-8 reads U+FFFD. No text encodes to a
  special id, whatever it says, except for SentencePiece pieces that the model
  declares to be text (T5's sentinels). Encoding adds no special id.
  """

  pad, bos, eos, unk, cls, sep, mask = 0, None, None, None, None, None, None
  sentinels = np.zeros(0, np.int32)
  masking = '[CLS]', '[SEP]', '[MASK]'  # names of cls, sep and mask
  reads_sentinels = False  # whether <extra_id_0> in a text is a sentinel

  @abc.abstractmethod
  def encode_batch(self, texts: Texts, threads: int = 1) -> list[np.ndarray]:
    """Texts -> the ids of each, int32 [n], outside the interpreter lock."""

  @abc.abstractmethod
  def decode(self, ids: Iterable[int]) -> str:
    """Ids -> text; cls, sep, mask, sentinels by name; no pad, BOS, EOS."""

  @abc.abstractmethod
  def piece(self, i: int) -> str:
    """The vocabulary's name of an id: '▁the', '##ing', 'Ġthe', '[MASK]'."""

  @abc.abstractmethod
  def byte_lengths(self) -> np.ndarray:
    """UTF-8 bytes of text that each id stands for, int32 [size].

    A word's leading space counts. Special ids and unknown text have 0.
    """

  @functools.cached_property
  def word_starts(self) -> np.ndarray:
    """Whether each id begins a word, bool [size].

    True for special ids, except for the unknown one. In scripts without spaces
    between words every piece begins a word, as each Chinese character does in
    BERT's release (see scripts.py).
    """
    return np.ones(self.size, bool)

  @functools.cached_property
  def specials(self) -> tuple[int, ...]:
    """Ids that stand for no text, sorted: never drawn in place of a word."""
    ids = {self.pad, self.bos, self.eos, self.unk, self.cls, self.sep}
    ids |= {self.mask, *self.sentinels.tolist()}
    return tuple(sorted(ids - {None}))

  @functools.cached_property
  def markers(self) -> dict[str, int]:
    """Name -> id of every token that no text has: <s>, <|im_end|>."""
    return {self.piece(i): i for i in self.specials}

  @functools.cached_property
  def shown(self) -> dict[int, str]:
    """What decode() writes for special ids: a name, or nothing."""
    ends = {i: '' for i in (self.pad, self.bos, self.eos) if i is not None}
    named = {self.cls, self.sep, self.mask, *self.sentinels.tolist()} - {None}
    return ends | {i: self.piece(i) for i in named}


# ---- What a config asks of a tokenizer --------------------------------------


def start_id(tokenizer: Tokenizer, config: DataConfig) -> int | None:
  """The id that a text begins with, or None; see data.start.

  'bos' falls back to the vocabulary's `pad` if neither the vocabulary nor
  data.bos has a BOS. Raises ValueError if the vocabulary has no such id.
  """
  given = config.bos if config.bos >= 0 else None
  if config.start == 'none' and given is None:
    return None
  bos = tokenizer.bos if given is None else given
  choices = {
    'none': given,  # of prompts only
    'bos': tokenizer.pad if bos is None else bos,
    'eos': tokenizer.eos,
    'pad': tokenizer.pad,
  }
  found = int(choices.get(config.start, config.start))
  if found >= tokenizer.size:
    raise ValueError(
      f'data.start={config.start!r} with data.bos={config.bos} is not an id of'
      f' data.tokenizer, which has {tokenizer.size}.'
    )
  return found


def sentinel_ids(tokenizer: Tokenizer, config: DataConfig) -> np.ndarray:
  """The ids that mark spans, in order of use: int32 [n].

  data.sentinels of the vocabulary's own. With data.borrow_sentinels all of
  them, and then the ids below, down to the next special one: T5's published
  code counts down from the end of the vocabulary (32099) without a limit, so
  that its 101st sentinel is 31999, an ordinary piece. Raises ValueError if the
  vocabulary's own do not end it so.
  """
  own = tokenizer.sentinels
  if not config.borrow_sentinels:
    return own[: config.sentinels]
  lowest = int(own[-1])
  last = max((i for i in tokenizer.specials if i < lowest), default=-1)
  if not np.array_equal(own, np.arange(own[0], lowest - 1, -1)):
    raise ValueError(
      'data.borrow_sentinels=True counts sentinels down into the pieces of the '
      f'vocabulary, but those of data.tokenizer={config.tokenizer!r} are not '
      "in this order: set it to False, or take a vocabulary such as T5's, "
      'whose last id is <extra_id_0>, the one before it <extra_id_1>.'
    )
  more = np.arange(lowest - 1, last, -1, np.int32)
  return np.concatenate([own, more])


def check_size(tokenizer: Tokenizer, vocab_size: int) -> None:
  """Raises ValueError unless the ids fit a table of `vocab_size` rows."""
  if not 0 <= vocab_size - tokenizer.size < PADDING:
    raise ValueError(
      f'data.tokenizer has {tokenizer.size} pieces, sentinels included, but'
      f' model.vocab_size={vocab_size}: they must be equal, or the table may'
      f' have fewer than {PADDING} unused rows.'
    )


def check_specials(tokenizer: Tokenizer, config: DataConfig) -> None:
  """Raises ValueError unless the vocabulary has what the objective needs."""
  needed = {'an end of text (EOS)': tokenizer.eos}
  if config.masks:
    ids = tokenizer.cls, tokenizer.sep, tokenizer.mask
    needed = dict(zip(tokenizer.masking, ids, strict=True))
  missing = [name for name, i in needed.items() if i is None]
  if missing:
    raise ValueError(
      f'data.objective={config.objective!r} needs {", ".join(needed)}, but'
      f' data.tokenizer={config.tokenizer!r} ({config.tokenizer_kind}) lacks'
      f' {", ".join(missing)}: choose one that has all of them, or'
      " data.tokenizer='', which trains one for the objective."
    )
  if (count := len(tokenizer.sentinels)) < config.sentinels:
    raise ValueError(
      f'data.sentinels={config.sentinels}, but data.tokenizer='
      f'{config.tokenizer!r} has {count}.'
    )
  sentinel_ids(tokenizer, config)
