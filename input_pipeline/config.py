"""What the data is: one frozen record, validated before anything is read."""

import dataclasses
import difflib
import os

from input_pipeline.sources import names

# What is learnt, and the keys that it alone reads: those that are above 0, and
# those that may be 0. Where another objective is chosen all of them are 0, or
# '', False and empty.
_SPANS = ('sentinels', 'noise_density')
_MASKS = ('noise_density', 'predictions', 'masking', 'masked_share')
_CHUNK = ('document_tokens',)
_MASKS_TOO = ('random_share', 'whole_words', 'duplicates')
PAIRS = {  # inputs and targets
  'prefix': ((), _CHUNK),  # the first part of a text, and the rest
  'span_corruption': ((*_SPANS, 'mean_span_length', *_CHUNK), ()),  # T5's
  'iid_spans': ((*_SPANS, 'target_length'), _CHUNK),  # its other ones
  'drop_tokens': (('noise_density', 'target_length'), _CHUNK),
  'bert_style': (_SPANS, ('random_share', *_CHUNK)),
  'mass_style': (_SPANS, _CHUNK),
  'deshuffling': ((), _CHUNK),
  'ul2': (('sentinels', 'denoisers'), _CHUNK),  # a mixture
}
PAIRS = {
  k: (keys, (*own, 'loss_on_inputs')) for k, (keys, own) in PAIRS.items()
}
MASKED = {  # rows, some of whose tokens are predicted
  'mlm': (_MASKS, _MASKS_TOO),  # of text as it comes
  'sentence_pairs': (_MASKS, (*_MASKS_TOO, 'short_share')),  # and what is next
  'full_sentences': (_MASKS, _MASKS_TOO),  # across documents
  'doc_sentences': (_MASKS, _MASKS_TOO),
}
OBJECTIVES = {'causal': ((), ()), **PAIRS, **MASKED}
MASKING = ('bert', 'roberta', 'electra')
TOKENIZERS = ('unigram', 'bpe', 'wordpiece', 'byte_bpe', 'bytes')
NORMALIZATIONS = ('', 'none', 'nfkc', 'nmt_nfkc')
STARTS = ('none', 'bos', 'eos', 'pad')


# Documents of a block by default. At C4's 480 tokens a document a block fills
# 15 rows or more, the last of which is part-filled: half a row is lost of 15.
BLOCK = 128
PER_DOCUMENT = 32  # tokens of a row for each document, where that is more


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The keys `data.*`; their defaults live in configs/common.py.

  Everything but `threads` decides the batches and is in the fingerprint.
  Raises ValueError naming the key when a value is impossible.
  """

  source: str  # source_names.KINDS; '' where there is a mixture
  tokenizer: str  # file or folder of a vocabulary; '' trains it on the source
  sentinels: int  # <extra_id_N> pieces, added at the end where there are none
  objective: str  # OBJECTIVES
  noise_density: float  # share of the tokens that is corrupted or masked
  mean_span_length: float  # tokens in a corrupted span, on average
  batch: int  # rows of the global batch
  length: int  # tokens in a row; of an encoder-decoder S, and T follows
  concatenate: bool  # join a block's documents before cutting pieces
  pack: bool  # short examples share a row
  block: int  # documents read, shuffled and packed together; 0: by `length`
  document_tokens: int  # longer documents give one random chunk; 0: all of it
  streams: int  # independent readers; divides batch
  holdout: int  # every holdout-th document of a file is for evaluation
  max_bad_share: float  # of unreadable documents, among 1,000 at least
  threads: int  # 0: one a core that the process may use; speed only
  target_length: int = 0  # T where the objective's targets vary in length
  # (mode, rate, mean span, share) each; mean span 0: to the end, and with rate
  # 0 from anywhere, without a sentinel.
  denoisers: tuple = ()
  predictions: int = 0  # P, at most so many masked tokens in a row
  # Phases before the one of `length` and `predictions`: (share of the steps,
  # length, predictions) each; see phases().
  curriculum: tuple[tuple[float, int, int], ...] = ()
  mixture: tuple = ()  # of (source, rate): a share of the rows from each
  documents: int = 0  # only the first ones of each source; 0: all of it
  epochs: int = 0  # times that every document is read; 0: without end
  text_field: str = 'text'  # of json, parquet and tfds: what holds the text
  tokenizer_kind: str = 'unigram'  # TOKENIZERS; unigram, bpe: SentencePiece
  lowercase: bool = False  # wordpiece alone: no capitals, no accents, as BERT
  # These two decide how SentencePiece is trained where there is no tokenizer:
  # NORMALIZATIONS, '' is the kind's own; and whether a unigram keeps all of a
  # text, as bpe, byte_bpe and bytes do anyhow (see sentence_piece.train).
  normalization: str = ''
  lossless: bool = False
  masking: str = ''  # whose rule of how many are masked: MASKING
  masked_share: float = 0.0  # of those chosen, what reads [MASK]
  random_share: float = 0.0  # what reads a random token
  whole_words: bool = False  # words are masked whole
  duplicates: int = 0  # n: epochs e and e + n mask alike; 0: none do
  short_share: float = 0.0  # of the documents whose pairs are shorter
  loss_on_inputs: bool = False  # a decoder's, as that on targets
  # What a text begins with, in rows and in generation: STARTS or an id. 'none':
  # rows of causal models are windows of length + 1 tokens, nothing is inserted,
  # and a prompt has nothing before it but data.bos, if that is given.
  start: str = 'pad'
  bos: int = -1  # the id of BOS, a published checkpoint's; -1: the vocabulary's

  @property
  def pairs(self) -> bool:
    """Whether examples are inputs and targets."""
    return self.objective in PAIRS

  @property
  def masks(self) -> bool:
    """Whether rows need the tokens [CLS], [SEP] and [MASK]."""
    return self.objective in MASKED

  @property
  def sentences(self) -> bool:
    """Whether documents come as lists of sentences."""
    return self.masks and self.objective != 'mlm'

  @property
  def repeats(self) -> bool:
    """Whether a corpus of less than one large block is read several times to
    fill it, an epoch being all of these: where nothing counts the times."""
    return self.block > BLOCK and not (self.epochs or self.duplicates)

  @property
  def workers(self) -> int:
    """data.threads, or the cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
      return self.threads or len(os.sched_getaffinity(0))
    return self.threads or os.cpu_count()

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

  @property
  def sources(self) -> tuple:
    """(key, source, rate) of every source: one, or those of the mixture."""
    if not self.mixture:
      return (('data.source', self.source, 1.0),)
    return tuple(
      (f'data.mixture[{n}]', *pair) for n, pair in enumerate(self.mixture)
    )

  @property
  def cursor_shape(self) -> tuple[int, int]:
    """Streams, and the numbers that tell the place of one of them."""
    numbers = 1 + 4 * len(self.mixture) if self.mixture else 4
    return self.streams, numbers

  @property
  def cursor_names(self) -> str:
    """What the numbers of a cursor are, for a reader."""
    place = 'epoch, shard, block, row'
    return f'rows, then {place} of each source' if self.mixture else place

  def __post_init__(self):
    for key, value in dataclasses.asdict(self).items():
      _require(value is not None, key, value, 'be set')
    if self.block == 0:
      object.__setattr__(self, 'block', max(BLOCK, self.length // PER_DOCUMENT))
    mixture = names.check(self, _require)
    object.__setattr__(self, 'mixture', mixture)  # of JSON's lists too
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
    _require(
      self.normalization in NORMALIZATIONS, 'normalization', self.normalization,
      f'be one of {", ".join(map(repr, NORMALIZATIONS))}',
    )  # fmt: skip
    for key, kinds in (
      ('normalization', ('unigram', 'bpe')),
      ('lossless', ('unigram', 'bpe', 'byte_bpe', 'bytes')),  # none is lost
    ):
      _require(
        not getattr(self, key) or self.tokenizer_kind in kinds,
        key, getattr(self, key),
        f'be {type(getattr(self, key))()!r}: data.tokenizer_kind='
        f'{self.tokenizer_kind!r} does not read it',
      )  # fmt: skip
    needed, optional = OBJECTIVES[self.objective]
    keys = {k for pair in OBJECTIVES.values() for keys in pair for k in keys}
    hint = '; configs/ablations.py sets and clears what goes with an objective'
    for key in sorted(keys.difference(needed, optional)):
      _require(
        not getattr(self, key), key, getattr(self, key),
        f'be {type(getattr(self, key))()!r}: data.objective='
        f'{self.objective!r} does not read it{hint}',
      )  # fmt: skip
    sizes = ['batch', 'block', 'streams', 'sentinels', 'document_tokens']
    sizes += ['predictions', 'target_length']
    for key in sizes:
      value = getattr(self, key)
      least = int(key in needed or key in sizes[:3])
      rule = f'be at least {least}'
      if key in needed:
        rule += f' for data.objective={self.objective!r}{hint}'
      _require(value >= least, key, value, rule)
    pairs = self.objective == 'sentence_pairs'  # three signs, a token of each
    least = 5 if pairs else 4
    _require(
      self.length >= least, 'length', self.length, f'be at least {least}'
    )
    _require(
      self.predictions <= self.length, 'predictions', self.predictions,
      f'be at most data.length={self.length}',
    )  # fmt: skip
    _require(
      'noise_density' not in needed or 0 < self.noise_density < 1,
      'noise_density', self.noise_density, 'lie between 0 and 1, both excluded',
    )  # fmt: skip
    if 'mean_span_length' in needed:
      self._check_span('mean_span_length', self.mean_span_length)
    if self.masks:
      self._check_masking()
    if self.objective == 'bert_style':
      self._check_share('random_share')
    if self.objective == 'ul2':
      self._check_denoisers()
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
      all(
        isinstance(phase, tuple)
        and [*map(type, phase)] == [float, int, int]
        and 0 < phase[0] < 1
        for phase in phases
      )
      and sum(phase[0] for phase in phases) < 1,
      'curriculum', phases, 'hold (share of the steps, length, predictions)'
      ' each, and the shares must leave some to data.length',
    )  # fmt: skip
    for _, length, predictions in phases:
      sizes = {'length': length, 'predictions': predictions}
      dataclasses.replace(self, curriculum=(), **sizes)
    self._check_start()
    for key in ('threads', 'documents', 'epochs'):
      value = getattr(self, key)
      _require(value >= 0, key, value, 'be 0 (all) or more')
    _require(
      self.batch % self.streams == 0, 'batch', self.batch,
      f'be a multiple of data.streams={self.streams}',
    )  # fmt: skip

  def _check_start(self):
    _require(
      self.start in STARTS or str(self.start).isdecimal(), 'start', self.start,
      f'be one of {", ".join(STARTS)}, or the id of a token',
    )  # fmt: skip
    _require(
      not self.masks or (self.start, self.bos) == ('pad', -1), 'start',
      self.start, f"be 'pad', and data.bos -1: data.objective="
      f'{self.objective!r} does not read them',
    )  # fmt: skip
    _require(
      not self.pairs or self.start != 'none', 'start', self.start,
      f'be a token: targets of data.objective={self.objective!r} begin with'
      ' one',
    )  # fmt: skip
    _require(
      self.bos == -1 or (self.bos >= 0 and self.start in ('none', 'bos')),
      'bos', self.bos, f'be -1, or an id that data.start={self.start!r} reads',
    )  # fmt: skip

  def _check_span(self, key, value):
    _require(
      1 <= value < self.length, key, value,
      f'be at least 1 token and below data.length={self.length}',
    )  # fmt: skip

  def _check_share(self, key, rest=1.0):
    value = getattr(self, key)
    _require(0 <= value <= rest, key, value, f'lie between 0 and {rest:g}')

  def _check_masking(self):
    _require(
      self.masking in MASKING, 'masking', self.masking,
      f'be one of {", ".join(MASKING)}',
    )  # fmt: skip
    _require(
      0 < self.masked_share <= 1, 'masked_share', self.masked_share,
      'be above 0 and at most 1',
    )  # fmt: skip
    self._check_share('random_share', round(1 - self.masked_share, 9))
    self._check_share('short_share')
    _require(
      not self.whole_words or self.masking != 'electra',
      'whole_words', self.whole_words,
      "be False: data.masking='electra' draws tokens one by one",
    )  # fmt: skip
    _require(
      self.duplicates >= 0, 'duplicates', self.duplicates, 'be 0 or more'
    )

  def _check_denoisers(self):
    for denoiser in self.denoisers:
      _require(
        isinstance(denoiser, tuple)
        and len(denoiser) == 4
        and denoiser[0]
        and isinstance(denoiser[0], str)
        and all(isinstance(number, int | float) for number in denoiser[1:]),
        'denoisers', self.denoisers,
        'have (mode, rate, mean span, share) for each denoiser',
      )  # fmt: skip
      mode, rate, mean, share = denoiser
      where = f'denoisers, {mode}:'
      _require(
        0 < rate < 1 or (rate == 0 and not mean), f'{where} rate', rate,
        'lie between 0 and 1, or be 0 beside a mean span of 0',
      )  # fmt: skip
      _require(share > 0, f'{where} share', share, 'be above 0')
      if mean:
        self._check_span(f'{where} mean span', mean)
    total = sum(share for *_, share in self.denoisers)
    _require(
      abs(total - 1) < 1e-6, 'denoisers', self.denoisers,
      f'have shares that sum to 1, not {total:g}',
    )  # fmt: skip


def _require(holds, key, value, rule):
  if not holds:
    raise ValueError(f'data.{key}={value!r} must {rule}.')
