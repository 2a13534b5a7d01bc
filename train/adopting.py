"""What a config takes from a published checkpoint."""

import dataclasses
import os

from ml_collections import ConfigDict

from input_pipeline.config import data_config
from input_pipeline.sources import paths
from input_pipeline.tokenizers import kinds, published
from models import pretrained
from models.pretrained import pair
from train import applying, special_tokens
from train.runs import warm_start_tokenizer
from train.settings import OWN


def adopt(source: str, config: ConfigDict) -> ConfigDict:
  """The config with the checkpoint's model and, where it has one, tokenizer.

  Raises ValueError if the families differ, or no tokenizer fits its table.
  """
  family = pretrained.read_config(source).family
  if family != config.model.family:
    raise ValueError(
      f'{source} is of model.family={family!r}, the config of '
      f'{config.model.family!r}: name a config of that family.'
    )
  model = pretrained.read_config(
    source, **{name: config.model[name] for name in OWN}
  )
  config = config.copy_and_resolve_references()
  for field in dataclasses.fields(model):
    ours, theirs = config.model[field.name], getattr(model, field.name)
    if ours != theirs:
      print(f'model.{field.name}: {theirs!r} (the config had {ours!r})')
      with config.ignore_type():
        config.model[field.name] = theirs
  special_tokens.adopt(source, config)
  if config.data.source != 'synthetic':
    if config.data.tokenizer:
      _compare_tokenizers(source, config)
    else:
      config.data.tokenizer = _own_tokenizer(source, config)
  return config


def _own_tokenizer(source: str, config: ConfigDict) -> str:
  """The folder of a checkpoint's tokenizer; a ValueError if none fits."""
  kind = config.data.tokenizer_kind
  places = source, os.path.join(source, pair.NAMES[0])
  found = [place for place in places if published.holds(place, kind)]
  if not found:
    raise ValueError(
      f'{source} holds no tokenizer of data.tokenizer_kind={kind!r}, and a '
      'newly trained one would not fit its weights: set data.tokenizer and '
      'data.tokenizer_kind.'
    )
  if not _numbered(source, found[0]):
    raise ValueError(
      f'{source} is an XLM-R: the ids of its SentencePiece model differ from'
      ' those of its weights, which have <s> <pad> </s> <unk> first. Its'
      ' tokenizer.json has the right ones.'
    )
  return os.path.abspath(found[0])


def _numbered(source, place):
  """Whether a checkpoint's tokenizer has the ids of its weights."""
  whole = os.path.exists(os.path.join(place, published.WHOLE))
  return whole or pretrained.kept_fields(source)[0] != 'xlm-roberta'


def _compare_tokenizers(source: str, config: ConfigDict) -> None:
  """Prints whether data.tokenizer is the checkpoint's own.

  Raises ValueError as `warm_start_tokenizer.compare`, or if data.tokenizer
  cannot be read.
  """
  data = data_config(config)
  if not paths.exists(data.tokenizer):  # a run that resumes has a copy
    return
  with paths.local(data.tokenizer) as copy:
    given = kinds.load(
      copy, data.sentinels, data.tokenizer_kind, data.lowercase
    )
  try:
    if not _numbered(source, source):
      raise ValueError(
        'Its SentencePiece model has other ids than its weights.'
      )
    theirs = applying.published_tokenizer(
      source, data.sentinels, data.lowercase
    )
  except ValueError as error:
    print(
      f'data.tokenizer={data.tokenizer!r} cannot be compared with the tokenizer'
      f' of {source}: {error}'
    )
    return
  print(warm_start_tokenizer.compare(given, theirs, source, data))
