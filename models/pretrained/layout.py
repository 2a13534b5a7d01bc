"""What a layout is, which there are, and which one suits.

A layout is how transformers writes the checkpoints of one family of models: the
fields of config.json, and the names and shapes of the tensors. Each is a module
of `layouts/` with these names:

  MODEL_TYPES   what `model_type` in config.json may be
  PREFIX        what the names of the body's tensors begin with where a head
                stands beside it: 'bert.'. Files of a body alone leave it out
  read(fields: Fields, tensors: set of names) -> TransformerConfig
                reads every field of config.json, or knows it to be harmless, or
                refuses it; the names of the file's tensors may settle the head
  write(config) -> dict   the fields of config.json, with `model_type` and
                `architectures`
  weights(config) -> list of Weight   which number of ours is which of theirs
  spares(config) -> list of Spare     tensors that a file may also hold

and, where the family needs them, these:

  HEADS         the heads it has, where not all of model.family's
  LENGTH        the field of config.json for the length of rows, where positions
                have no end: the weights do not show it
  BOS           bos_token_id where config.json leaves it out
  START         the fields that name a text's first token, where that is not
                bos_token_id
  typed(fields, model_type) -> dict   config.json under another of MODEL_TYPES
                than the first

To add a layout, write its module and give it a place in LAYOUTS. Fields that
need no more than a name and a default stand in a table, FIELDS, which is used
both to read and to write. layouts/common.py has what most layouts share; BERT's
and GPT-2's modules have what their relatives share with them.
"""

import dataclasses
import json
from types import ModuleType

from models.config import TransformerConfig
from models.pretrained.fields import Fields
from models.pretrained.layouts import (
  bert,
  bloom,
  electra,
  gpt1,
  gpt2,
  gpt_neox,
  gptj,
  llama,
  opt,
  roberta,
  rwkv,
  t5,
  t5_decoder,
)

_ENCODERS = (bert, roberta, electra)
_DECODERS = (gpt1, gpt2, llama, bloom, gptj, gpt_neox, opt, rwkv, t5_decoder)
# In this order `suiting` tries them.
LAYOUTS = (*_ENCODERS, t5, *_DECODERS)
# Fields of a config that do not decide the outputs: how weights are
# initialised, how the model is regularised and run.
FREE = (
  'attention',
  'attention_dropout',
  'dropout',
  'dropout_kind',
  'dtype',
  'init',
  'init_std',
  'pooler_dropout',
  'remat',
  'scan',
  'scan_unroll',
)


def named(model_type: str) -> ModuleType:
  """The layout of a `model_type`.

  Raises:
    ValueError: there is none; lists those that there are.
  """
  known = {name: layout for layout in LAYOUTS for name in layout.MODEL_TYPES}
  if model_type not in known:
    raise ValueError(
      f'model_type is {model_type!r}; there are layouts for '
      f'{", ".join(sorted(known))}.'
    )
  return known[model_type]


def suiting(
  config: TransformerConfig, model_type: str = '', kept: dict | None = None
) -> tuple[ModuleType, dict]:
  """The first layout that expresses a config, and its config.json.

  A layout expresses a config if its `write`, read back with its `read`, gives
  the same model.

  Args:
    config: of the model.
    model_type: try this one alone; '': all of LAYOUTS.
    kept: fields to set in config.json.

  Raises:
    ValueError: no layout expresses it; says what each lacks.
  """
  reasons = []
  for layout in (named(model_type),) if model_type else LAYOUTS:
    try:
      fields = layout.write(config)
      if model_type and model_type != layout.MODEL_TYPES[0]:
        fields = layout.typed(fields, model_type)
      fields |= kept or {}
      names = {weight.theirs for weight in layout.weights(config)}
      back = layout.read(Fields(json.loads(json.dumps(fields))), names)
    except ValueError as error:
      reasons.append(f'{layout.MODEL_TYPES[0]}: {error}')
      continue
    differing = [
      f'model.{field.name}={getattr(config, field.name)!r}'
      for field in dataclasses.fields(config)
      if field.name not in FREE
      and getattr(config, field.name) != getattr(back, field.name)
    ]
    if not differing:
      return layout, fields
    reasons.append(f'{layout.MODEL_TYPES[0]} has no {", ".join(differing)}')
  raise ValueError(
    'No layout of transformers expresses this model:\n  ' + '\n  '.join(reasons)
  )
