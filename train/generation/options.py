"""How a model's answers are written, and what an answer is."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from models.sampling import Sampling


@dataclasses.dataclass(frozen=True)
class Options:
  """How answers are written.

  Attributes:
    length: the most tokens of an answer; 0: as many as a target of training
      has, or half a row; LONGEST of a published checkpoint.
    minimum: the fewest.
    samples: answers to each prompt: drawn, or the best of the `beams`.
    stop: an answer ends before the first of these strings.
    seed: of what is drawn.
    temperature, top_k, top_p, min_p, repetition_penalty: see models.sampling.
    beams: above 1, the best texts of a beam search are written.
    length_penalty: GNMT's, of the beam search.
    mode: of UL2, what the prompts begin with, such as [S2S] (Tay et al. 2022,
      section 3.1.3); '': nothing.

  Raises:
    ValueError: values that cannot be, or do not go together.
  """

  length: int = 0
  minimum: int = 0
  samples: int = 1
  stop: tuple[str, ...] = ()
  seed: int = 0
  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0
  beams: int = 1
  length_penalty: float = 0.6
  mode: str = ''

  def __post_init__(self):
    for name, least in (
      *(('length', 0), ('minimum', 0), ('samples', 1), ('beams', 1)),
      *(('temperature', 0), ('top_k', 0)),
    ):
      value = getattr(self, name)
      if not least <= value < math.inf:
        raise ValueError(f'{name}={value} must be at least {least}.')
    if not 0 <= self.seed < 2**31:
      raise ValueError(f'seed={self.seed} must be at least 0, below 2^31.')
    if not math.isfinite(self.length_penalty):
      raise ValueError(f'length_penalty={self.length_penalty} is no number.')
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p={self.top_p} must be above 0, at most 1.')
    if not 0 <= self.min_p < 1:
      raise ValueError(f'min_p={self.min_p} must be at least 0, below 1.')
    if not 0 < self.repetition_penalty < math.inf:
      raise ValueError(
        f'repetition_penalty={self.repetition_penalty} must be above 0.'
      )
    if '' in self.stop:
      raise ValueError('A stop string is empty: every text has it.')
    if self.length and self.minimum > self.length:
      raise ValueError(
        f'minimum={self.minimum} is more than length={self.length}.'
      )
    drawn = self.top_k or self.top_p < 1 or self.min_p
    if drawn and not self.temperature:
      raise ValueError('top_k, top_p and min_p need a temperature above 0.')
    if self.beams > 1:
      if self.temperature or self.repetition_penalty != 1:
        raise ValueError(
          f'beams={self.beams} search the likeliest text: leave temperature '
          'and repetition_penalty out.'
        )
      if self.samples > self.beams:
        raise ValueError(
          f'samples={self.samples} are more than the beams={self.beams}.'
        )
    elif self.samples > 1 and not self.temperature:
      raise ValueError(
        f'samples={self.samples} of the likeliest text are all the same: give '
        'a temperature above 0, or beams.'
      )

  @property
  def sampling(self) -> Sampling:
    return Sampling(
      self.temperature,
      self.top_k,
      self.top_p,
      self.min_p,
      self.repetition_penalty,
      self.minimum,
    )


GREEDY = Options()


@dataclasses.dataclass(frozen=True)
class Answer:
  """A text that a model has written.

  Attributes:
    text: without what ends it.
    end: 'eos', 'stop' (a stop string) or 'length'.
    tokens: the ids, with the one that ends it.
    log_probs: the model's log probability of each token.
    score: of a beam search; else the sum of the log probabilities.
  """

  text: str
  end: str
  tokens: tuple[int, ...]
  log_probs: tuple[float, ...]
  score: float


def answer_of(
  tokens: np.ndarray,
  log_probs: np.ndarray,
  decode: Callable[[np.ndarray], str],
  eos: int,
  stop: Sequence[str],
  score: float | None = None,
) -> Answer:
  """The answer of tokens [T] with their log probabilities; it may end before T.

  It ends at the id `eos`, or where its text has one of the strings `stop`.
  """
  end, count = 'length', len(tokens)
  if len(ends := np.flatnonzero(tokens == eos)):
    end, count = 'eos', int(ends[0])
  text = decode(tokens[:count])
  places = [text.find(string) for string in stop if string in text]
  if places:
    text, end = text[: min(places)], 'stop'
    while any(string in decode(tokens[: count - 1]) for string in stop):
      count -= 1
  count += end == 'eos'
  log_probs = log_probs[:count].tolist()
  score = sum(log_probs) if score is None else float(score)
  return Answer(text, end, (*tokens[:count].tolist(),), (*log_probs,), score)
