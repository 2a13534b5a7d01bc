"""What the data is: one frozen record, checked before anything is read."""

import dataclasses
import os
from typing import Any

from configs.phases import Phase, kinds_of, make_plan
from input_pipeline import config_checks
from input_pipeline.choices import (
  LABELLED,
  MASKED,
  OBJECTIVES,
  PAIRS,
  PREFERENCES,
)

# Documents of a chunk by default. At C4's 480 tokens a document a chunk fills
# 15 rows or more. The last row is part-filled, so about half a row of the 15 is
# lost.
CHUNK = 128
PER_DOCUMENT = 32  # tokens of a row for each document, where that is more


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The keys `data.*`, and `train.phases`.

  configs/common.py has their meanings and defaults; a test holds the defaults
  here equal to those. `data_config` makes it from a whole config.

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
  streams: int  # independent readers, which take turns at the rows
  holdout: int  # every holdout-th document of a file is for evaluation
  max_bad_share: float  # of unreadable documents, among 1,000 at least
  threads: int  # 0: one for each usable core; changes speed only
  target_length: int = 0  # T where the objective's targets vary in length
  # (mode, rate, mean span, share) each; see objectives/ul2.py.
  denoisers: tuple = ()
  predictions: int = 0  # P, the most masked tokens in a row
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
  single_sentences: bool = False  # pairs are of single sentences
  loss_on_inputs: bool = False  # a decoder predicts its inputs too
  borrow_sentinels: bool = False  # beyond `sentinels`, pieces mark spans
  # What a text begins with, in rows and in generation: STARTS or an id. 'none':
  # rows of causal models are windows of length + 1 tokens, nothing is inserted,
  # and a prompt begins with data.bos if that is given, else with its own text.
  start: str = 'pad'
  bos: int = -1  # the id of BOS in a published checkpoint; -1: the vocabulary's
  # Labelled tasks: their files as their authors publish them; '': TFDS.
  task_folder: str = ''
  # How chats are written: '' as the checkpoint's run or plain, see
  # chat/templates.py.
  chat_template: str = ''
  # Of tasks in words (instructions/wording.py): the most worked examples before
  # a question, and the shares of the examples that have some, that list their
  # options, and that are turned round.
  shots: int = 0
  shot_share: float = 0.0
  option_share: float = 0.0
  inverted_share: float = 0.0
  framing: str = ''  # FRAMING: what stands around and between texts
  choices: int = 0  # of a 'choice': how many pairs of texts an example has
  # ORDERS: in which orders the two texts of an example are read.
  orders: str = ''
  label_scale: float = 0.0  # of a 'regression': labels are divided by this
  prompts: str = ''  # of 'in_context': PROMPTS
  dimensions: int = 0  # of an x of theirs
  # train.phases: those before the one of the sizes here; see configs.phases.
  phases: tuple = ()

  @property
  def pairs(self) -> bool:
    """Whether examples are inputs and targets."""
    return self.objective in PAIRS

  @property
  def masks(self) -> bool:
    """Whether rows need the tokens [CLS], [SEP] and [MASK]."""
    framed = self.framing and self.framing != 'gpt1'
    return self.objective in MASKED or bool(
      (self.labelled or self.preferences) and framed
    )

  @property
  def labelled(self) -> bool:
    """Whether rows are a task's examples with labels for a head."""
    return self.objective in LABELLED

  @property
  def preferences(self) -> bool:
    """Whether rows are prompts with answers that are compared."""
    return self.objective in PREFERENCES

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
    counted = self.epochs or self.duplicates or self.scored or self.preferences
    return self.block > CHUNK and not counted

  @property
  def workers(self) -> int:
    """Threads: data.threads, or one for each core this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
      return self.threads or len(os.sched_getaffinity(0))
    return self.threads or os.cpu_count()

  @property
  def plan(self) -> list[Phase]:
    """All phases of the run, in order; the last one has no end."""
    sizes = self.batch, self.length, self.predictions, self.objective
    return make_plan(self.phases, *sizes)

  def at(self, phase: Phase) -> 'DataConfig':
    """The config of one phase, without the keys that its objective ignores."""
    own = OBJECTIVES[phase.objective]
    others = {k for keys in OBJECTIVES.values() for k in sum(keys, ())}
    unread = others.difference(own.needed, own.optional)
    off = {key: type(getattr(self, key))() for key in unread}
    sizes = {
      'batch': phase.batch,
      'length': phase.length,
      'predictions': phase.predictions,
      'objective': phase.objective,
    }
    return dataclasses.replace(self, **off | sizes, phases=())

  @property
  def kinds(self) -> list['DataConfig']:
    """The configs of the phases, one for each way to make rows."""
    phases = self.plan
    if len(phases) == 1:
      return [self]
    found = dict(zip(kinds_of(phases), phases, strict=True))
    return [self.at(phase) for phase in found.values()]

  @property
  def kind_count(self) -> int:
    """How many ways there are to make rows; see `configs.phases.kinds_of`."""
    return kinds_of(self.plan)[-1] + 1

  @property
  def uneven(self) -> bool:
    """Whether batches differ in size, or streams in their shares of one."""
    batches = {phase.batch for phase in self.plan}
    return len(batches) > 1 or self.batch % self.streams > 0

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
    numbers = 3 + self.kind_count
    mixed = 1 + numbers * len(self.mixture)
    return self.streams, mixed if self.mixture else numbers

  @property
  def cursor_names(self) -> str:
    """What the numbers of a cursor are, for a reader."""
    place = 'epoch, shard, chunk, row'
    if self.kind_count > 1:
      place += ' in each kind of rows'
    return f'rows, then {place} of each source' if self.mixture else place

  def __post_init__(self):
    config_checks.all_set(self)
    if self.block == 0:
      longest = max(phase.length for phase in self.plan)
      object.__setattr__(self, 'block', max(CHUNK, longest // PER_DOCUMENT))
    pairs = config_checks.mixture_pairs(self.mixture)
    object.__setattr__(self, 'mixture', pairs)
    config_checks.check(self)


def data_config(config: Any) -> DataConfig:
  """The data of a whole config: its group `data` and its phases."""
  return DataConfig(**config.data, phases=config.train.phases)
