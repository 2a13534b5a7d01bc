"""What the data is: one frozen record, validated before anything is read."""

import dataclasses
import difflib

# What is learnt, and the keys that it alone reads: above 0, and 0 elsewhere.
OBJECTIVES = {
  'span_corruption': (
    'sentinels', 'noise_density', 'mean_span_length', 'document_tokens',
  ),
  'causal': (),
  'mlm': ('noise_density', 'predictions'),
  'sentence_pairs': ('noise_density', 'predictions'),  # mlm and what is next
}  # fmt: skip
TOKENIZERS = ('unigram', 'bpe', 'wordpiece', 'byte_bpe', 'bytes')
SOURCES = ('json:', 'tfds:', 'text:', 'docs', 'synthetic')


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The keys `data.*`; their defaults live in configs/common.py.

  Everything but `threads` decides the batches and is in the fingerprint.
  Raises ValueError naming the key when a value is impossible.
  """

  source: str  # json:GLOB, tfds:NAME[@SPLIT], text:GLOB, docs or synthetic
  tokenizer: str  # file or folder of a vocabulary; '' trains it on the source
  sentinels: int  # <extra_id_N> pieces, added at the end where there are none
  objective: str  # OBJECTIVES
  noise_density: float  # share of the tokens that is corrupted or masked
  mean_span_length: float  # tokens in a corrupted span, on average
  batch: int  # rows of the global batch
  length: int  # tokens in a row; of an encoder-decoder S, and T follows
  concatenate: bool  # join a block's documents before cutting pieces
  pack: bool  # short examples share a row
  block: int  # documents read, shuffled and packed together
  document_tokens: int  # longer documents give one random chunk; 0: all of it
  streams: int  # independent readers; divides batch
  holdout: int  # every holdout-th document of a file is for evaluation
  max_bad_share: float  # share of unreadable documents tolerated
  threads: int  # 0 is all cores; speed only
  predictions: int = 0  # P, at most so many masked tokens in a row
  # Phases before the one of `length` and `predictions`: (share of the steps,
  # length, predictions) each; see phases().
  curriculum: tuple[tuple[float, int, int], ...] = ()
  tokenizer_kind: str = 'unigram'  # TOKENIZERS; unigram, bpe: SentencePiece
  lowercase: bool = False  # wordpiece alone: no capitals, no accents, as BERT

  @property
  def masks(self) -> bool:
    """Whether rows need the tokens [CLS], [SEP] and [MASK]."""
    return 'predictions' in OBJECTIVES[self.objective]

  def phases(self, steps):
    """[(last step, DataConfig)] of a run of so many steps, in their order.

    One entry, unless there is a curriculum. Raises ValueError where a share of
    it is no whole number of steps.
    """
    found, last = [], 0
    for share, length, predictions in self.curriculum:
      count = round(share * steps)
      _require(
        count >= 1 and abs(share * steps - count) < 1e-6,
        'curriculum', self.curriculum,
        f'divide the steps: {share} of train.steps={steps} is no whole number',
      )  # fmt: skip
      last += count
      sizes = {'length': length, 'predictions': predictions}
      found.append((last, dataclasses.replace(self, curriculum=(), **sizes)))
    return [*found, (steps, dataclasses.replace(self, curriculum=()))]

  def __post_init__(self):
    for key, value in dataclasses.asdict(self).items():
      _require(value is not None, key, value, 'be set')
    _require(
      self.source.startswith(SOURCES), 'source', self.source,
      'be json:GLOB, tfds:NAME[@SPLIT], text:GLOB, docs or synthetic',
    )  # fmt: skip
    _require(
      self.objective in OBJECTIVES, 'objective', self.objective,
      f'be one of {", ".join(OBJECTIVES)}',
    )  # fmt: skip
    near = difflib.get_close_matches(self.tokenizer_kind, TOKENIZERS, 1, 0.4)
    _require(
      self.tokenizer_kind in TOKENIZERS, 'tokenizer_kind', self.tokenizer_kind,
      f'be one of {", ".join(TOKENIZERS)}'
      + ''.join(f' (did you mean {name!r}?)' for name in near),
    )  # fmt: skip
    _require(
      not self.lowercase or self.tokenizer_kind == 'wordpiece',
      'lowercase', self.lowercase,
      f'be False: data.tokenizer_kind={self.tokenizer_kind!r} does not read it',
    )  # fmt: skip
    read = OBJECTIVES[self.objective]
    for key in sorted({key for keys in OBJECTIVES.values() for key in keys}):
      _require(
        key in read or not getattr(self, key), key, getattr(self, key),
        f'be 0: data.objective={self.objective!r} does not read it',
      )  # fmt: skip
    sizes = {'sentinels', 'document_tokens', 'predictions'}.intersection(read)
    for key in ('batch', 'block', 'streams', *sorted(sizes)):
      value = getattr(self, key)
      _require(value >= 1, key, value, 'be at least 1')
    _require(self.length >= 4, 'length', self.length, 'be at least 4')
    _require(
      self.predictions <= self.length, 'predictions', self.predictions,
      f'be at most data.length={self.length}',
    )  # fmt: skip
    _require(
      'noise_density' not in read or 0 < self.noise_density < 1,
      'noise_density', self.noise_density, 'lie between 0 and 1, both excluded',
    )  # fmt: skip
    _require(
      'mean_span_length' not in read or self.mean_span_length >= 1,
      'mean_span_length', self.mean_span_length, 'be at least 1 token',
    )  # fmt: skip
    _require(
      not self.pack or self.objective != 'sentence_pairs', 'pack', self.pack,
      "be False: data.objective='sentence_pairs' has one pair a row",
    )  # fmt: skip
    _require(
      self.holdout == 0 or self.holdout >= 2, 'holdout', self.holdout,
      'be 0 (none) or at least 2 (every second document)',
    )  # fmt: skip
    _require(
      0 <= self.max_bad_share <= 1, 'max_bad_share', self.max_bad_share,
      'lie between 0 and 1',
    )  # fmt: skip
    phases = self.curriculum
    _require(
      all(len(phase) == 3 and 0 < phase[0] < 1 for phase in phases)
      and sum(phase[0] for phase in phases) < 1,
      'curriculum', phases, 'hold (share of the steps, length, predictions)'
      ' each, and the shares must leave some to data.length',
    )  # fmt: skip
    for _, length, predictions in phases:
      sizes = {'length': length, 'predictions': predictions}
      dataclasses.replace(self, curriculum=(), **sizes)
    _require(self.threads >= 0, 'threads', self.threads, 'be 0 (all) or more')
    _require(
      self.batch % self.streams == 0, 'batch', self.batch,
      f'be a multiple of data.streams={self.streams}',
    )  # fmt: skip


def _require(holds, key, value, rule):
  if not holds:
    raise ValueError(f'data.{key}={value!r} must {rule}.')
