"""Opens the sources of a config: what is trained on, and what evaluated on."""

import dataclasses
import re

from input_pipeline import tokenizing
from input_pipeline.chat.templates import Template
from input_pipeline.choices import PAIRS
from input_pipeline.config import DataConfig
from input_pipeline.objectives import lengths
from input_pipeline.objectives.labelled import Format
from input_pipeline.objectives.preferences import Answers
from input_pipeline.sources import cache, labelled, opening, preferences
from input_pipeline.sources.files import Source
from input_pipeline.streams.chunks import kept
from input_pipeline.streams.corpus import Corpus
from input_pipeline.tasks.task import Task
from input_pipeline.tokenizers.interface import Tokenizer
from input_pipeline.tokenizers.numbers import Numbers


def open_corpora(
  config: DataConfig,
  seed: int,
  vocab_size: int,
  tokenizer: Tokenizer,
  eval_source: str,
  family: str,
  template: Template | None = None,
) -> tuple[list[Corpus], list[Corpus]]:
  """The corpora to train on, and those to evaluate on.

  The arguments are those of `pipeline.open_data`. Raises ValueError, which
  names the key or the file that is wrong. `template` writes chats.
  """
  corpora, evaluated = [], []
  reserved = config.sentinels + (Numbers.SPECIALS if config.masks else 0)
  sizes = seed, vocab_size

  def opened(name, key):
    source = opening.open_source(
      name, *sizes, reserved, key, config.text_field, config.task_folder,
      config.objective == 'desirable', bool(config.chat_template),
    )  # fmt: skip
    if isinstance(source, cache.TokenCache):
      where = f'{key}={name!r}'
      tokenizing.check_cache(config, *sizes, tokenizer, source, where)
    return source

  def corpus(key, name, source, *split, trained=False, **limit):
    return _corpus(
      key, name, source, config, family, trained, template, *split, **limit
    )

  def add_evaluated(name):
    source = opened(name, 'eval.source')
    evaluated.append(corpus('eval.source', name, source))

  for key, name, _ in config.sources:
    source = opened(name, key)
    own = eval_source or source.validation
    holdout = 0 if own else config.holdout
    made = corpus(
      key, name, source, holdout, limit=config.documents, trained=True
    )
    corpora.append(made)
    if holdout:
      evaluated.append(corpus(key, name, source, holdout, True))
    elif not own:
      raise ValueError(
        f"data.holdout=0 and eval.source='' leave nothing of {key}={name!r}"
        ' to evaluate on: hold documents out (100: every hundredth) or give'
        ' eval.source.'
      )
    elif not eval_source:
      for each in getattr(source, 'validations', None) or (own,):
        add_evaluated(each)
  if eval_source:
    names = {eval_source, config.source}
    if 'synthetic' in names and len(names) > 1:
      raise ValueError(
        f'eval.source={eval_source!r} and data.source={config.source!r} have'
        ' different tokens: both or neither must be synthetic.'
      )
    for name in several(eval_source):
      add_evaluated(name)
  return corpora, evaluated


def several(eval_source: str) -> list[str]:
  """The sources of eval.source: tasks may follow each other after spaces.

  >>> several('task:glue/rte task:glue/cola')
  ['task:glue/rte', 'task:glue/cola']
  """
  return re.split(r' +(?=task:)', eval_source)


def _corpus(
  key: str,
  name: str,
  source: Source,
  config: DataConfig,
  family: str,
  trained: bool,
  template: Template | None,
  *split: int,
  **limit: int,
) -> Corpus:
  """The corpus of a source: documents, or a task's labelled examples."""
  if isinstance(source, preferences.Preferences):
    answers = Answers(
      config, family, template=template if config.chat_template else None
    )
    return Corpus(key, name, source, config, *split, **limit, answers=answers)
  if not isinstance(source, labelled.Labelled):
    return Corpus(key, name, source, config, *split, **limit)
  config = task_config(config, source.task, family, key)
  # Worked examples are of those that the run learns.
  others = source.examples
  if holdout := next(iter(split), 0):
    others = [x for n, x in enumerate(others) if kept(n, holdout, False)]
  others = others[: config.documents or None]
  labels = Format(source.task, config, family, trained, template, others)
  labels.check(source.examples, f'{key}={name!r}')
  return Corpus(key, name, source, config, *split, **limit, labels=labels)


def task_config(
  config: DataConfig, task: Task, family: str, key: str
) -> DataConfig:
  """The config for the examples of a task, alone or in a mixture with text.

  In a mixture whose objective is for text, a task is text to text, in rows of
  the same sizes (Raffel et al. 2020, 3.5.3) and with loss on the same parts.

  Raises:
    ValueError: the objective does not fit the task; the message has `key`.
  """
  if config.labelled and config.objective != task.kind:
    raise ValueError(
      f'{key} is task {task.name}, whose kind is {task.kind!r}, but'
      f' data.objective={config.objective!r}: set it to {task.kind!r}, or to'
      " 'text_to_text' for a model that generates text."
    )
  if config.labelled or config.objective == 'text_to_text':
    return config
  if not config.pairs:
    raise ValueError(
      f'{key} is task {task.name}: data.objective={config.objective!r} reads no'
      " labels. Set it to 'text_to_text', or to one with inputs and targets."
    )
  unread = {key for keys in PAIRS.values() for key in sum(keys, ())}
  unread -= {'loss_on_inputs'}
  unset = {name: type(getattr(config, name))() for name in sorted(unread)}
  length = 0
  if family == 'encoder_decoder':
    length = lengths.target_length(config, family)
  return dataclasses.replace(
    config, objective='text_to_text', **unset | {'target_length': length}
  )
