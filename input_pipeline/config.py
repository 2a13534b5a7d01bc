"""What the data is: one frozen record, checked before anything is read."""

import dataclasses
import os

from input_pipeline import config_checks
from input_pipeline.choices import LABELLED, MASKED, PAIRS

# Documents of a chunk by default. At C4's 480 tokens a document a chunk fills
# 15 rows or more. The last row is part-filled, so about half a row of the 15 is
# lost.
CHUNK = 128
PER_DOCUMENT = 32  # tokens of a row for each document, where that is more


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The keys `data.*`.

  configs/common.py has their meanings and defaults; a test holds the defaults
  here equal to those.

  All but `threads` decide the batches, or which documents they come from.
  Raises ValueError naming the key when a value is impossible: config_checks
  has the rules, and choices the tables that comments name here.
  """

  source: str  # SOURCES; '' where there is a mixture
  tokenizer: str  # file or folder of a vocabulary; '' trains it on the source
  sentinels: int  # <extra_id_N> pieces; added at the end if there are none
  objective: str  # OBJECTIVES
  noise_density: float  # share of the tokens that is corrupted or masked
  mean_span_length: float  # tokens in a corrupted span, on average
  batch: int  # rows of the global batch
  length: int  # tokens in a row; of an encoder-decoder S, and T follows
  concatenate: bool  # join a chunk's documents before cutting pieces
  pack: bool  # short examples share a row
  block: int  # documents of a chunk: read, shuffled, packed together; 0: auto
  document_tokens: int  # the most taken of a document, at random; 0: all
  streams: int  # independent readers; divides batch
  holdout: int  # every holdout-th document of a file is for evaluation
  max_bad_share: float  # of unreadable documents, among 1,000 at least
  threads: int  # 0: one for each usable core; changes speed only
  target_length: int = 0  # T where the objective's targets vary in length
  # (mode, rate, mean span, share) each. A mean span of 0 reaches the end of the
  # text; with rate 0 too it starts anywhere and has no sentinel.
  denoisers: tuple = ()
  predictions: int = 0  # P, the most masked tokens in a row
  # Phases before the one of `length` and `predictions`: (share of the steps,
  # length, predictions) each; see phases().
  curriculum: tuple[tuple[float, int, int], ...] = ()
  mixture: tuple = ()  # of (source, rate): a share of the rows from each
  # RATES: what the mixture's numbers are; 'examples': how many each source has,
  # r = min(n, cap)^(1 / temperature) (Raffel et al. 2020, 3.5.2).
  rates: str = 'given'
  rate_cap: int = 0  # K; 0: none
  rate_temperature: float = 1.0  # T
  documents: int = 0  # only the first ones of each source; 0: all
  epochs: int = 0  # times that every document is read; 0: without end
  text_field: str = 'text'  # the text's field in the sources of FIELDS
  tokenizer_kind: str = 'unigram'  # TOKENIZERS
  lowercase: bool = False  # wordpiece only: no capitals, no accents, as BERT
  # How SentencePiece is trained if there is no tokenizer (see
  # sentence_piece.train): NORMALIZATIONS, and whether a unigram keeps all of a
  # text, as bpe, byte_bpe and bytes always do.
  normalization: str = ''
  lossless: bool = False
  masking: str = ''  # whose rule of how many are masked: MASKING
  masked_share: float = 0.0  # of the chosen tokens, those that read [MASK]
  random_share: float = 0.0  # those that read a random token
  whole_words: bool = False  # words are masked whole
  duplicates: int = 0  # n: epochs e and e + n mask alike; 0: none do
  short_share: float = 0.0  # of the documents whose pairs are shorter
  loss_on_inputs: bool = False  # a decoder predicts its inputs too
  borrow_sentinels: bool = False  # beyond `sentinels`, pieces mark spans
  # What a text begins with, in rows and in generation: STARTS or an id. 'none':
  # rows of causal models are windows of length + 1 tokens, nothing is inserted,
  # and a prompt begins with data.bos if that is given, else with its own text.
  start: str = 'pad'
  bos: int = -1  # the id of BOS in a published checkpoint; -1: the vocabulary's
  # Labelled tasks: their files as their authors publish them; '': TFDS.
  task_folder: str = ''
  framing: str = ''  # FRAMING: what stands around and between texts
  choices: int = 0  # of a 'choice': how many pairs of texts an example has
  # ORDERS: in which orders the two texts of an example are read.
  orders: str = ''
  label_scale: float = 0.0  # of a 'regression': labels are divided by this

  @property
  def pairs(self) -> bool:
    """Whether examples are inputs and targets."""
    return self.objective in PAIRS

  @property
  def masks(self) -> bool:
    """Whether rows need the tokens [CLS], [SEP] and [MASK]."""
    return self.objective in MASKED or (
      self.labelled and self.framing != 'gpt1'
    )

  @property
  def labelled(self) -> bool:
    """Whether rows are a task's examples with labels for a head."""
    return self.objective in LABELLED

  @property
  def scored(self) -> bool:
    """Whether there are tasks, which evaluations give a score."""
    return any(name.startswith('task:') for _, name, _ in self.sources)

  @property
  def sentences(self) -> bool:
    """Whether documents come as lists of sentences."""
    return self.objective in MASKED and self.objective != 'mlm'

  @property
  def repeats(self) -> bool:
    """Whether a corpus smaller than one large chunk fills it several times.

    All of these readings are one epoch then, so not where epochs are counted.
    """
    counted = self.epochs or self.duplicates or self.scored
    return self.block > CHUNK and not counted

  @property
  def workers(self) -> int:
    """Threads: data.threads, or one for each core this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
      return self.threads or len(os.sched_getaffinity(0))
    return self.threads or os.cpu_count()

  def phases(self, steps: int) -> list[tuple[int, 'DataConfig']]:
    """(last step, config) of each phase of a run of `steps` steps, in order.

    One phase, unless there is a curriculum. Raises ValueError where a share of
    it is not a whole number of steps.
    """
    found, last = [], 0
    for share, length, predictions in self.curriculum:
      count = round(share * steps)
      config_checks.require(
        count >= 1 and abs(share * steps - count) < 1e-6,
        'curriculum', self.curriculum,
        f'divide the steps: {share} of train.steps={steps} is not a whole'
        ' number',
      )  # fmt: skip
      last += count
      sizes = {'length': length, 'predictions': predictions}
      found.append((last, dataclasses.replace(self, curriculum=(), **sizes)))
    return [*found, (steps, dataclasses.replace(self, curriculum=()))]

  @property
  def sources(self) -> tuple[tuple[str, str, float], ...]:
    """(key, source, rate) of every source: one, or those of the mixture."""
    if not self.mixture:
      return (('data.source', self.source, 1.0),)
    return tuple(
      (f'data.mixture[{n}]', *pair) for n, pair in enumerate(self.mixture)
    )

  @property
  def cursor_shape(self) -> tuple[int, int]:
    """How many streams there are, and how many numbers a stream's place has."""
    numbers = 1 + 4 * len(self.mixture) if self.mixture else 4
    return self.streams, numbers

  @property
  def cursor_names(self) -> str:
    """What the numbers of a cursor are, for a reader."""
    place = 'epoch, shard, chunk, row'
    return f'rows, then {place} of each source' if self.mixture else place

  def __post_init__(self):
    config_checks.all_set(self)
    if self.block == 0:
      object.__setattr__(self, 'block', max(CHUNK, self.length // PER_DOCUMENT))
    pairs = config_checks.mixture_pairs(self.mixture)
    object.__setattr__(self, 'mixture', pairs)
    config_checks.check(self)
