"""A trained model on texts of your own, from Python.

run = open_run('W')                  # a workdir
run = open_published('bert-base')    # or a folder in Hugging Face layout
run.apply(['A text.'])['logits']
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from input_pipeline.choices import TOKENIZERS
from input_pipeline.tokenizers import kinds, published
from models import pretrained
from models.build import build
from models.families.electra import discriminator_config, discriminator_params
from models.families.encoder import Encoder
from models.positions import check_places
from train.generation.prompts import padded, text_ids

Texts = Sequence[str | Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Published:
  """A published checkpoint: its model, parameters and tokenizer."""

  folder: str
  model: nn.Module
  params: Any
  tokenizer: Any
  start: int | None  # the id that texts begin with

  def apply(
    self, texts: Texts, targets: Texts | None = None
  ) -> dict[str, np.ndarray]:
    """What the model computes of texts; see `apply`."""
    return apply(
      self.model, self.params, self.tokenizer, self.start, texts, targets
    )


def open_published(
  folder: str, adapter: str = '', **overrides: Any
) -> Published:
  """Opens a checkpoint in Hugging Face layout, with the tokenizer beside it.

  `adapter` is a folder with peft's LoRA for it, which is merged into it.
  `overrides` are fields of the model that its config.json leaves open, such as
  `dtype` or `head`. Raises ValueError if it cannot be read or has no tokenizer.
  """
  pretrained.read_config(folder, **overrides)  # first: is it a checkpoint?
  if adapter:
    from train import peft_files  # it needs the extra `pretrained`

    found = peft_files.read(adapter, folder, **overrides)
  tokenizer = published_tokenizer(folder)
  config, params = pretrained.load(folder, **overrides)
  if adapter:
    params = peft_files.merged(adapter, found, params)
  start = pretrained.start_token(folder)
  return Published(folder, build(config), params, tokenizer, start)


def published_tokenizer(
  folder: str, sentinels: int = 0, uncased_first: bool = False
) -> Any:
  """A checkpoint's tokenizer, of the first kind and case that fit its files.

  ELECTRA's pair has it beside the discriminator. `sentinels` are appended if
  its files have none. Raises ValueError if there is none that can be read.
  """
  from models.pretrained import pair  # it needs the extra `pretrained`

  reasons = {}  # message -> the attempts that failed with it
  for place in (folder, os.path.join(folder, pair.NAMES[0])):
    for kind in filter(lambda kind: published.holds(place, kind), TOKENIZERS):
      cases = uncased_first, not uncased_first
      for lowercase in cases if kind == 'wordpiece' else (False,):
        name = f'{kind} (data.lowercase={lowercase})'
        name = name if kind == 'wordpiece' else kind
        try:
          return kinds.load(place, sentinels, kind, lowercase)
        except ValueError as error:
          reasons.setdefault(str(error), []).append(name)
  raise ValueError(
    f'{folder} holds no tokenizer of the kinds {", ".join(TOKENIZERS)}.'
    + " Each was tried; 'the config' and data.* mean an attempt's settings:"
    * bool(reasons)
    + ''.join(f'\n  {", ".join(x)}: {why}' for why, x in reasons.items())
  )


def apply(
  model: nn.Module,
  params: Any,
  tokenizer: Any,
  start: int | None,
  texts: Texts,
  targets: Texts | None = None,
) -> dict[str, np.ndarray]:
  """The outputs of a model for texts, without dropout.

  A text gets the special tokens that it has in training: [CLS] and [SEP] around
  an encoder's, `start` before a decoder's, EOS after the inputs of an
  encoder-decoder. `<extra_id_0>` and so on are sentinels. Ids in place of a
  text are read as they are.

  Args:
    model: of any family. Of ELECTRA's pair the discriminator is applied.
    params, tokenizer: of the model.
    start: the id that texts begin with, where the family has one.
    texts: strings, or lists of ids.
    targets: of an encoder-decoder, the texts that its decoder reads.

  Returns:
    'tokens' int [B,T], what the predicting stack reads, 0 after the end of a
    row; 'segments' int [B,T], 1 where there is a token; and the outputs of the
    model's head, float32: 'logits' [B,T,V], or what `Encoder` names. A
    decoder's logits at t predict the token at t + 1.

  Raises:
    ValueError: no text; targets missing, or given to another family; a text
      longer than the model's positions, or with an unknown sentinel.
  """
  family = model.config.family
  if not len(texts):
    raise ValueError('There is no text to apply the model to.')
  if (targets is not None) != (family == 'encoder_decoder'):
    raise ValueError(
      f'model.family={family!r} '
      + ('needs targets.' if targets is None else 'reads no targets.')
    )
  encode = functools.partial(_rows, model.config, tokenizer)
  inputs = {}
  if family == 'encoder_decoder':
    source, read = encode(texts, (), (tokenizer.eos,))
    inputs = {'encoder_inputs': source, 'encoder_segments': read}
    tokens, segments = encode(targets, (start,), ())
  elif family in ('encoder', 'electra'):
    tokens, segments = encode(texts, (tokenizer.cls,), (tokenizer.sep,))
  else:
    before = () if start is None else (start,)
    tokens, segments = encode(texts, before, ())
  inputs |= {'inputs': tokens, 'segments': segments}
  if family == 'electra':
    model = Encoder(discriminator_config(model.config))
    params = discriminator_params(params)
  run = jax.jit(model.apply)
  # A few rows need no rules of a mesh: every device computes all of them.
  with nn.logical_axis_rules(()):
    found = jax.device_get(run({'params': params}, **inputs))
  found = found if isinstance(found, dict) else {'logits': found}
  return {'tokens': tokens, 'segments': segments} | found


def _rows(config, tokenizer, texts, before, after):
  """Texts -> ids and segments [B,T], padded on the right."""
  rows = [
    [*before, *text_ids(tokenizer, x), *after] if isinstance(x, str) else x
    for x in texts
  ]
  length = max(map(len, rows))
  check_places(length, config)
  return padded(rows, length)
