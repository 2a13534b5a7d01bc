"""What is wrong with a config, reported before anything is built."""

import math
from collections.abc import Mapping
from typing import Any

from input_pipeline.choices import PAIRS
from input_pipeline.config import DataConfig, data_config
from input_pipeline.objectives.rows import batch_shapes
from train.aligning import methods
from train.parallel.checks import check_mesh

DTYPES = 'float32', 'bfloat16'  # of sums of gradients
# The least value of whole-number and factor keys, by group.
_TRAIN = {'steps': 1, 'accumulate': 1, 'log_every': 1}
LEAST = {
  'train': _TRAIN | {'z_loss': 0, 'max_logit_loss': 0, 'loss_chunk': -1},
  'eval': {'every': 1, 'batches': 0, 'samples': 0, 'beams': 1},
  'checkpoint': {'every': 1, 'keep': 1, 'keep_every': 0},
  'sharding': {'slices': 0, 'microbatches': 0, 'repeats': 1},
}


def check_group(
  name: str, group: Any, uses: Mapping[str, tuple[str, ...]]
) -> None:
  """Checks that the keys a choice uses are set, and no others.

  None means not set. 0 and False are always allowed: they turn a feature off.
  The group's key `name` makes the choice, and `uses` has the keys that each
  choice uses. Raises ValueError for an unknown choice, a missing key or an
  ignored one.
  """
  choice = group.name
  if choice not in uses:
    raise ValueError(
      f'{name}.name is {choice!r}; it must be one of {", ".join(uses)}.'
    )
  for key in uses[choice]:
    if group[key] is None:
      raise ValueError(
        f'{name}.{key} is not set; {name}.name={choice} uses it.'
      )
  for key in group:
    if group[key] and key != 'name' and key not in uses[choice]:
      raise ValueError(
        f'{name}.{key} is {group[key]}, but {name}.name={choice} does not use '
        'it; leave it unset.'
      )


def check_settings(config: Any, devices: int) -> None:
  """Checks what the classes and functions that read a group cannot know.

  TransformerConfig, DataConfig, make_optimizer, make_schedule and make_mesh
  check their own groups. Raises ValueError for a key without a value, or one
  that others, or the number of devices of all hosts, rule out.
  """
  check_mesh(config, check_keys(config), devices)


def check_keys(config: Any) -> DataConfig:
  """What `check_settings` knows without devices; returns the data's config."""
  _check_values(config)
  data = data_config(config)  # types are checked first
  _check_positions(config, data)
  _check_phases(config, data)
  _check_epochs(config)
  _check_head(config)
  _check_prompts(config)
  methods.check(config)
  if not config.align.method:
    _check_labels(config)
  return data


def _check_values(config):
  """Every key must have a value, which must be finite and not too small."""
  for group in ('model', 'data', 'train', 'eval', 'checkpoint', 'sharding'):
    for key, value in config[group].items():
      if value is None:
        raise ValueError(
          f'{group}.{key} is not set. Set it in the config file or with '
          f'--config.{group}.{key}=VALUE.'
        )
  for group in ('model', 'data', 'optimizer', 'schedule', 'train'):
    for key, value in config[group].items():
      if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'{group}.{key} is {value}; it must be finite.')
  for group, numbers in LEAST.items():
    for key, least in numbers.items():
      value = config[group].get(key)
      if value is None:
        raise ValueError(f'{group}.{key} is missing in the config.')
      if value < least:
        raise ValueError(
          f'{group}.{key} is {value}; it must be at least {least}.'
        )
  if not 0 <= config.seed < 2**32:  # jax.random.key takes 32 bits
    raise ValueError(f'seed is {config.seed}; it must lie in [0, 2^32).')
  kind = config.train.accumulate_dtype
  if kind not in DTYPES:
    raise ValueError(
      f'train.accumulate_dtype is {kind!r}; it must be {" or ".join(DTYPES)}.'
    )
  if kind == 'bfloat16' and config.train.accumulate == 1:
    raise ValueError(
      f'train.accumulate_dtype is {kind!r}, but train.accumulate is 1: no '
      'gradients are added up. Leave it at float32, or raise train.accumulate.'
    )
  until, model = config.train.dropout_until, config.model
  if model.scan_unroll > 1 and not model.scan:
    raise ValueError(
      f'model.scan_unroll is {model.scan_unroll}, but model.scan=False: layers '
      'are not looped over. Set one of them to its default.'
    )
  if until and not 0 < until < config.train.steps:
    raise ValueError(
      f'train.dropout_until is {until}; it must be a step before the last one, '
      f'{config.train.steps}, or 0.'
    )
  if until and config.tuning.train == 'two_stage':
    raise ValueError(
      f'train.dropout_until is {until}, but tuning.train=two_stage has steps '
      'of two kinds already: set it to 0.'
    )
  if until and not (model.dropout or model.attention_dropout):
    raise ValueError(
      f'train.dropout_until is {until}, but model.dropout and '
      'model.attention_dropout are 0: nothing is dropped. Set it to 0.'
    )
  if not 0 <= config.train.ema_decay < 1:
    raise ValueError(
      f'train.ema_decay is {config.train.ema_decay}; it must be at least 0 and '
      'below 1.'
    )
  if config.train.ema_decay and config.tuning.train == 'lora':
    raise ValueError(
      f'train.ema_decay is {config.train.ema_decay}, but tuning.train=lora: '
      "the mean of LoRA's factors is not that of the matrices which they make. "
      'Set it to 0.'
    )
  if not 0 <= config.train.label_smoothing < 1:
    raise ValueError(
      f'train.label_smoothing is {config.train.label_smoothing}; it must be at '
      'least 0 and below 1.'
    )


def _check_positions(config, data):
  """Every row must end before learned positions do."""
  if config.model.position != 'learned':
    return
  places = config.model.max_length - config.model.position_offset
  for rows in data.kinds:
    shapes = batch_shapes(rows, config.model.family)
    key = 'data.length' if rows.length == data.length else 'train.phases'
    for name in ('encoder_inputs', 'inputs'):
      length = shapes[name][0][0] if name in shapes else 0
      if length > places:
        raise ValueError(
          f'{key} has rows of {length} tokens ({name}), but model.max_length='
          f'{config.model.max_length} has positions for {places}: lower one or '
          'raise the other.'
        )


def _check_phases(config, data):
  """Every phase must begin before the run ends."""
  for number, phase in enumerate(data.plan[1:], 1):
    if phase.first >= config.train.steps:
      last = number == len(data.phases)
      what = 'the last one, of data.*,' if last else f'train.phases[{number}]'
      raise ValueError(
        f'train.phases[{number - 1}] ends at step {phase.first:,}, but '
        f'train.steps is {config.train.steps:,}: {what} would never begin. '
        'Raise train.steps, end the phases earlier, or drop the last ones and '
        'give data.* their sizes.'
      )
  unit = config.schedule.unit
  if unit == 'tokens' and (data.labelled or data.preferences):
    raise ValueError(
      f'schedule.unit is {unit!r}, but the rows of data.objective='
      f'{data.objective!r} are examples of any length, whose tokens nothing '
      'counts before they are read: count steps or rows.'
    )


def _check_head(config):
  """The model must be able to learn, and to do, what the config asks for."""
  family, head = config.model.family, config.model.head
  objective = config.data.objective
  if head == 'mlm_nsp' and objective != 'sentence_pairs':
    raise ValueError(
      "model.head='mlm_nsp' predicts whether a sentence comes next: it needs "
      f"data.objective='sentence_pairs', not {objective!r}."
    )
  if config.model.prefix and objective not in PAIRS:
    raise ValueError(
      'model.prefix=True lets inputs see one another, but data.objective='
      f'{objective!r} has no inputs: it needs one of {", ".join(PAIRS)}.'
    )
  if config.model.prefix and config.data.loss_on_inputs:
    raise ValueError(
      'data.loss_on_inputs=True predicts each input from those before it, but '
      'with model.prefix=True the one that is predicted is read as well: set '
      'one of them to False.'
    )
  if config.eval.beams > 1 and family in ('encoder', 'electra'):
    raise ValueError(
      f'eval.beams is {config.eval.beams}, but model.family={family!r} writes '
      'no text: set it to 1.'
    )
  if config.model.generator == 'adversarial':
    _check_token_losses(config, "model.generator='adversarial'")
  _check_sources(config.eval.sources)
  if config.eval.samples and family in ('encoder', 'electra'):
    raise ValueError(
      f'eval.samples is {config.eval.samples}, but model.family={family!r} '
      'generates no text: set it to 0.'
    )


def _check_sources(sources):
  """eval.sources must be pairs of names, which are in metrics, and sources."""
  names = []
  for pair in sources:
    pair = (*pair,) if isinstance(pair, tuple | list) else (pair,)
    if len(pair) != 2 or not all(isinstance(x, str) and x for x in pair):
      raise ValueError(
        f'eval.sources has {pair!r}; it must have pairs (name, source).'
      )
    if '/' in pair[0] or pair[0] in names:
      raise ValueError(
        f'eval.sources has the name {pair[0]!r}; names must differ and have no '
        "'/': they are part of the metrics' names."
      )
    names.append(pair[0])


# Fields of the model that a new config decides, where a checkpoint decides all
# others.
OWN = (
  *('attention', 'attention_dropout', 'classes', 'dropout', 'dropout_kind'),
  *('dtype', 'features', 'head', 'init', 'init_std', 'pooler', 'remat'),
  *('scan', 'scan_unroll', 'adapter_dim'),
)
# The heads that learn each kind of labelled task.
HEADS = {
  'classification': ('sequence', 'sequence_lm'),
  'regression': ('sequence',),
  'choice': ('choice',),
  'tagging': ('tokens',),
  'span': ('span', 'span_joint'),
}
# The head that learns each kind of prompts of data.objective='in_context'.
PROMPTS = {'linear': 'tokens', 'copying': 'lm', 'classification': 'lm'}


def _check_epochs(config):
  if config.train.epochs or config.train.warmup_share:
    raise ValueError(
      f'train.epochs={config.train.epochs} and train.warmup_share='
      f'{config.train.warmup_share} are for python -m train.finetune, which '
      'knows how many examples there are: set train.steps and '
      'schedule.warmup_steps in their place.'
    )


def _check_prompts(config):
  """Vectors are read by a model of vectors, symbols by one of tokens."""
  model, data = config.model, config.data
  read = data.objective == 'in_context'
  width = data.dimensions if read and data.prompts == 'linear' else 0
  if model.input_dim != width:
    what = f'data.prompts={data.prompts!r} has' if read else 'the data have'
    raise ValueError(
      f'model.input_dim is {model.input_dim}, but {what} '
      + (f'vectors of data.dimensions={width}' if width else 'tokens')
      + f': set it to {width}.'
    )
  if not read:
    return
  if model.head != PROMPTS[data.prompts]:
    raise ValueError(
      f'data.prompts={data.prompts!r} needs model.head='
      f'{PROMPTS[data.prompts]!r}, not {model.head!r}.'
    )
  if width:
    _check_token_losses(config, f'data.prompts={data.prompts!r}')
  if config.eval.samples:
    raise ValueError(
      f"eval.samples is {config.eval.samples}, but data.objective='in_context' "
      'has no text to go on with: set it to 0.'
    )


def _check_labels(config):
  """A task's labels and the head that learns them need each other."""
  head, objective = config.model.head, config.data.objective
  if objective == 'in_context':  # see _check_prompts
    return
  heads = HEADS.get(objective)
  learned = [kind for kind in HEADS if head in HEADS[kind]]
  if heads is None and learned:
    raise ValueError(
      f'model.head={head!r} learns the labels of a task: it needs '
      f'data.objective={" or ".join(learned)}, not {objective!r}.'
    )
  if heads is None:
    return
  if head not in heads:
    raise ValueError(
      f'data.objective={objective!r} needs model.head={" or ".join(heads)}, '
      f'not {head!r}.'
    )
  one = config.model.classes == 1
  if head == 'sequence' and one != (objective == 'regression'):
    raise ValueError(
      f'data.objective={objective!r} needs model.classes='
      f'{"1" if objective == "regression" else "2 or more"}, not '
      f'{config.model.classes}.'
    )
  _check_token_losses(config, f'data.objective={objective!r}')
  if config.train.loss_chunk > 0 and head != 'sequence_lm':
    raise ValueError(
      f'train.loss_chunk is {config.train.loss_chunk}, but model.head={head!r} '
      'has no logits of a vocabulary: leave it at -1.'
    )


def _check_token_losses(config, user):
  for key in ('z_loss', 'label_smoothing', 'max_logit_loss'):
    if config.train[key]:
      raise ValueError(
        f'train.{key} is {config.train[key]}, but {user} does not use it: set '
        'it to 0.'
      )
