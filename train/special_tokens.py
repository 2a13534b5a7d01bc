"""What texts begin and end with, in a run and in a checkpoint.

A run that begins with a checkpoint starts texts as that does, and an exported
one says what its rows had.
"""

import os
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from models import decoding, pretrained
from models.pretrained import pair, special


def adopt(source: str, config: ConfigDict) -> None:
  """Lets a run's texts begin as a checkpoint's do; windows stay windows.

  Raises:
    ValueError: the checkpoint's start is no id.
  """
  start, data = pretrained.start_token(source), config.data
  if start is None or config.model.family not in decoding.FAMILIES:
    return
  if start >= config.model.vocab_size:
    print(
      f'{source}: texts begin with {start}, which is no id of '
      f'{config.model.vocab_size} rows: data.start={data.start!r} stands.'
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
  """Says if a checkpoint ends texts with another token than the run."""
  if pair.is_pair(source) or tokenizer.eos is None:
    return
  theirs = special.published(source, 'eos_token_id', None)
  if theirs not in (None, tokenizer.eos):
    print(
      f'{source} has eos_token_id {theirs}; documents end with {tokenizer.eos},'
      f' {tokenizer.piece(tokenizer.eos)!r} of the vocabulary.'
    )


def ids(tokenizer: Any, data: DataConfig, family: str) -> dict:
  """The ids of special tokens in a run's rows, by their names in config.json.

  Where rows have no start, a text comes after the EOS of the one before it.
  Padding is None where the vocabulary has none, but of an encoder-decoder.
  """
  start, pad = kinds.start_id(tokenizer, data), tokenizer.pad
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
  """What a checkpoint says of how it generates, a file as it is."""
  path = os.path.join(source, special.GENERATION)
  if not os.path.exists(path):
    return {}
  with open(path, 'rb') as file:
    return {special.GENERATION: file.read()}
