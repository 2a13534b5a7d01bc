"""The tasks of EleutherAI's lm-evaluation-harness (the extra `lm_eval`).

`Harness` answers the harness's requests as its own class for transformers'
models does (HFLM, version 0.4.13), so that numbers can be compared:

- A text gets the special tokens that its tokenizer adds: BOS before a decoder's
  if the tokenizer has it so (of a run, if its rows begin with one), EOS after
  an encoder's. A whole text that is scored by itself has them too, so that they
  are predicted as well.
- An empty context is BOS, or EOS where there is no BOS. White space at the end
  of a context belongs to the continuation.
- Of a text that is too long the last tokens are kept. A warning says so.

In two things it differs. Special tokens that a text spells out are text. And an
encoder-decoder writes at most `max_gen_toks` tokens; HFLM's writes as many more
as the inputs of its batch have.
"""

from typing import Any

import jax

from configs.commands import terminal
from train.evaluation.likelihoods import Likelihood, likelihoods, windows
from train.evaluation.slabs import by_slabs
from train.generation.options import Options
from train.generation.prompts import text_ids
from train.generation.writer import Writer

try:
  import lm_eval
  import lm_eval.api.model
  import lm_eval.models.utils
  import lm_eval.tasks
  import lm_eval.utils
except ImportError as error:
  raise ImportError(
    "The tasks of lm-evaluation-harness need lm_eval: pip install 'treeline-lm"
    f"[lm_eval]' ({error})."
  ) from error

LONGEST = 256  # tokens written where a task does not say how many
TOP_K = 50  # of what is drawn where a task says none, as in transformers
DRAWN = ('temperature', 'top_k', 'top_p', 'min_p')  # fields of what is drawn
Pair = tuple[list[int], list[int]]


class Harness(lm_eval.api.model.LM):
  """A model that answers the harness's requests.

  From Python:

    lm = make_harness(open_run('W'))  # of harness_tasks
    lm_eval.simple_evaluate(lm, tasks=['lambada_openai'])

  Args:
    writer: the model.
    length: the most tokens that are read at once.
    prefix: the id that is read where there is no context; None: the
      tokenizer's BOS, or else its EOS.
    begins: whether a decoder's text begins with it, too.
    batch: how many requests are answered at once. Results do not depend on it
      but for rounding.
    info: what the results say of the model.
  """

  def __init__(
    self,
    writer: Writer,
    length: int,
    prefix: int | None = None,
    begins: bool = False,
    batch: int = 8,
    info: dict[str, Any] | None = None,
  ):
    super().__init__()
    t = writer.tokenizer
    found = [x for x in (prefix, t.bos, t.eos) if x is not None]
    if not found:
      raise ValueError(
        'The tokenizer has neither BOS nor EOS, one of which the harness puts '
        'where there is no context.'
      )
    self._prefix = found[0]
    self._before = [self._prefix] if begins and not writer.pair else []
    self._after = [t.eos] if writer.pairs else []
    self._writer, self._batch, self._info = writer, batch, info or {}
    self.max_length = length

  def loglikelihood(self, requests: list) -> list[tuple[float, bool]]:
    """The log probability of each continuation, and whether it is greedy.

    Raises:
      ValueError: a continuation has no token, or more than can be read.
    """
    pairs, cut = [], []
    for context, continuation in (request.args for request in requests):
      before, after = self._pair(context, continuation)
      if not 0 < len(after) <= self.max_length:
        raise ValueError(
          f'The continuation {continuation[:60]!r} of the context '
          f'{context[-60:]!r} has {len(after)} tokens: it needs one, and at '
          f'most {self.max_length} can be read.'
        )
      most = self.max_length
      if not self._writer.pair:  # what precedes the last token is read
        most += 1 - len(after)
      cut.append(max(len(before) - most, 0))
      pairs.append((before[-most:], after))
    self._warn(cut, self.max_length)
    found = [(x.log_prob, x.greedy) for x in self._likelihoods(pairs)]
    for request, own in zip(requests, found, strict=True):
      self.cache_hook.add_partial('loglikelihood', request.args, own)
    return found

  def loglikelihood_rolling(self, requests: list) -> list[float]:
    """The log probability of each text, in windows that share one token."""
    pairs, owners = [], []
    for n, (text,) in enumerate(request.args for request in requests):
      ids, length = self._encoded(text), self.max_length
      own = [*windows(ids, length, length, self._prefix)] if ids else []
      pairs += own
      owners += [n] * len(own)
    found = [0.0] * len(requests)
    for n, own in zip(owners, self._likelihoods(pairs), strict=True):
      found[n] += own.log_prob
    for request, own in zip(requests, found, strict=True):
      self.cache_hook.add_partial('loglikelihood_rolling', request.args, own)
    return found

  def generate_until(self, requests: list) -> list[str]:
    """The text that is written after each context.

    Raises:
      ValueError: generation_kwargs have an unknown field or an impossible
        value.
    """
    alike: dict[str, list[int]] = {}
    for n, request in enumerate(requests):
      alike.setdefault(repr(request.args[1]), []).append(n)
    found: dict[int, str] = {}
    for places in alike.values():
      _, given = requests[places[0]].args
      texts = [requests[n].args[0] for n in places]
      found |= zip(places, self._written(texts, given), strict=True)
    for n, request in enumerate(requests):
      self.cache_hook.add_partial('generate_until', request.args, found[n])
    return [found[n] for n in range(len(requests))]

  def _written(self, contexts, given):
    """The texts after contexts that have the same generation_kwargs."""
    options = self._options(given)
    room = self.max_length
    if not self._writer.pair:
      room -= options.length
      if room < 1:
        raise ValueError(
          f'max_gen_toks={options.length} (of the task, or {LONGEST}) leaves '
          f'no token of the {self.max_length} that the model reads at once for '
          'a context: lower it in generation_kwargs of the task, or give a '
          'larger --window if the model has positions for it.'
        )
    rows = [self._encoded(text) or [self._prefix] for text in contexts]
    self._warn([max(len(row) - room, 0) for row in rows], room)
    rows = [row[-room:] for row in rows]
    t = self._writer.tokenizer
    hidden = {*t.specials}

    def write(first, part):
      answers = self._writer.answers(part, options, self._batch, first)
      for (answer,) in answers:
        text = t.decode([x for x in answer.tokens if x not in hidden])
        for stop in options.stop:
          text = text.split(stop)[0]
        yield text

    return by_slabs(rows, self._batch, write)

  def _options(self, given):
    """Options of generation_kwargs, as transformers reads them."""
    kwargs = lm_eval.models.utils.normalize_gen_kwargs(given, LONGEST)
    length, until = kwargs.pop('max_gen_toks'), kwargs.pop('until')
    drawn = kwargs.pop('do_sample')
    if kwargs.get('num_beams') == 1:
      del kwargs['num_beams']
    penalty = kwargs.pop('repetition_penalty', 1.0)
    if unknown := kwargs.keys() - {*DRAWN}:
      names = 'until', 'max_gen_toks', 'do_sample', 'repetition_penalty', *DRAWN
      raise ValueError(
        f'generation_kwargs have {", ".join(sorted(unknown))}; what is read '
        f'here is {", ".join(names)}: change the task.'
      )
    if drawn and not kwargs.get('temperature', 0) > 0:
      raise ValueError(
        'generation_kwargs: do_sample needs a temperature above 0.'
      )
    own = {'top_k': TOP_K} | kwargs if drawn else {}
    t = self._writer.tokenizer
    ends = [] if t.eos is None else [t.piece(t.eos)]
    stop = [x for x in dict.fromkeys([*until, *ends]) if x]
    return Options(
      length=length, stop=tuple(stop), repetition_penalty=penalty, **own
    )

  def _ids(self, text: str) -> list[int]:
    return [*map(int, text_ids(self._writer.tokenizer, text))]

  def _encoded(self, text: str) -> list[int]:
    """The ids of a text with its special tokens."""
    return [*self._before, *self._ids(text), *self._after]

  def _pair(self, context: str, continuation: str) -> Pair:
    """The ids of a context and of the continuation after it.

    A decoder's continuation has the tokens of both texts in one that come after
    as many as the context has by itself. (So a token of the two that spans both
    is neither's, unlike in `encode_pair`.) If an end follows the context, each
    text is encoded by itself.
    """
    if not context:
      return [self._prefix], self._ids(continuation)
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    before = self._encoded(kept) if kept else self._before
    if self._after or self._writer.pair:
      return before or [self._prefix], self._ids(continuation)
    whole = self._before + self._ids(kept + continuation)
    return before or [self._prefix], whole[len(before) :]

  def _likelihoods(self, pairs: list[Pair]) -> list[Likelihood]:
    """The likelihoods of pairs, the longest first, in their own order."""
    lengths = [len(context) + len(own) for context, own in pairs]
    order = sorted(range(len(pairs)), key=lambda n: -lengths[n])

    def read(_, part):
      return likelihoods(self._writer, part, self._batch)

    found = by_slabs([pairs[n] for n in order], self._batch, read)
    own = dict(zip(order, found, strict=True))
    return [own[n] for n in range(len(pairs))]

  def _warn(self, cut: list[int], room: int) -> None:
    """Reports how many requests lose tokens, if any."""
    if (count := sum(x > 0 for x in cut)) and jax.process_index() == 0:
      terminal.warn(
        f'{count:,} of {len(cut):,} requests are too long: they lose their '
        f'first tokens, at most {max(cut):,}, and keep {room:,} (--window).'
      )

  def get_model_info(self) -> dict[str, Any]:
    """What the harness writes of the model into its results."""
    return self._info | {
      'max_length': self.max_length,
      'begins_with': self._before,
    }

  def apply_chat_template(self, *_: Any, **__: Any) -> str:
    """Raises ValueError: there are no chat templates."""
    raise ValueError(
      'Chat templates are not supported: leave apply_chat_template out.'
    )

  @property
  def tokenizer_name(self) -> str:
    """Raises ValueError: the harness asks for it to fill a chat template."""
    return self.apply_chat_template()
