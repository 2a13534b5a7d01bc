"""Special tokens around texts, in a run and in a published checkpoint.

A run that begins with a checkpoint starts texts as the checkpoint does. An
exported checkpoint names the tokens that the run's rows had.
"""

import os
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.config import DataConfig
from input_pipeline.tokenizers.interface import start_id
from models import decoding, pretrained
from models.pretrained import pair, special


def adopt(source: str, config: ConfigDict) -> None:
  """Sets the config so that texts begin as the checkpoint's do.

  Rows that are windows of joined documents (`data.start='none'`) stay so.
  Raises ValueError if the checkpoint's start is not a number.
  """
  start, data = pretrained.start_token(source), config.data
  if start is None or config.model.family not in decoding.GENERATIVE:
    return
  if start >= config.model.vocab_size:
    print(
      f'{source}: texts begin with {start}, which is not an id of '
      f'{config.model.vocab_size} rows: data.start={data.start!r} is kept.'
    )
    return
  new = {'start': data.start, 'bos': start}
  if config.model.family == 'encoder_decoder':
    new = {'start': str(start), 'bos': -1}
  elif data.start != 'none':
    new['start'] = 'bos'
  for key, value in new.items():
    if data[key] != value:
      print(f'data.{key}: {value!r} (the config had {data[key]!r})')
      data[key] = value


def say_end(source: str, tokenizer: Any) -> None:
  """Reports a checkpoint that ends texts with another token than the run."""
  if pair.is_pair(source) or tokenizer.eos is None:
    return
  theirs = special.published(source, 'eos_token_id')
  if theirs not in (None, tokenizer.eos):
    print(
      f'{source} has eos_token_id {theirs}; documents end with {tokenizer.eos},'
      f' {tokenizer.piece(tokenizer.eos)!r} of the vocabulary.'
    )


def ids(tokenizer: Any, data: DataConfig, family: str) -> dict:
  """The ids of special tokens in a run's rows, by their names in config.json.

  Rows without a start have the EOS of the previous text before a text. Padding
  is None where the vocabulary has none, except for an encoder-decoder.
  """
  start, pad = start_id(tokenizer, data), tokenizer.pad
  eos = tokenizer.eos
  if data.masks:
    others = tokenizer.bos, eos, tokenizer.unk, tokenizer.cls, tokenizer.sep
    return {
      'bos_token_id': tokenizer.cls,
      'eos_token_id': tokenizer.sep,
      'pad_token_id': None if pad in others else pad,
    }
  if family == 'encoder_decoder':
    return {
      'decoder_start_token_id': start,
      'eos_token_id': eos,
      'pad_token_id': pad,
    }
  return {
    'bos_token_id': eos if start is None else start,
    'eos_token_id': eos,
    'pad_token_id': None if pad in (tokenizer.bos, eos) else pad,
  }


def generation(source: str) -> dict[str, bytes]:
  """The checkpoint's generation_config.json, if any: name -> bytes."""
  path = os.path.join(source, special.GENERATION)
  if not os.path.exists(path):
    return {}
  with open(path, 'rb') as file:
    return {special.GENERATION: file.read()}
