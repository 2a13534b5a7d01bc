"""ELECTRA's pair: generator and discriminator, each with its own checkpoint.

Here they are one model with one set of tables (models/families/electra.py), and
its checkpoint is a folder that holds the two.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp

from models.config import TransformerConfig
from models.families.electra import (
  discriminator_config,
  discriminator_params,
  generator_config,
)
from models.pretrained import files
from models.pretrained.fields import Fields
from models.pretrained.layouts import electra

NAMES = ('discriminator', 'generator')  # of the folders


def is_pair(folder: str) -> bool:
  """Whether a folder holds a pair."""
  return all(os.path.isdir(os.path.join(folder, name)) for name in NAMES)


def check_overrides(folder: str, overrides: dict[str, Any]) -> dict[str, Any]:
  """The overrides for each half: all but the head.

  Raises:
    ValueError: they ask for another head than the pair's.
  """
  head = overrides.get('head', 'rtd')
  if head != 'rtd':
    raise ValueError(
      f"model.head is {head!r}; {folder} holds ELECTRA's pair, which is "
      f"trained with 'rtd': set model.head to that, or name one of "
      f'{" and ".join(os.path.join(folder, name) for name in NAMES)} alone.'
    )
  return {key: x for key, x in overrides.items() if key != 'head'}


def split_config(
  config: TransformerConfig,
) -> tuple[TransformerConfig, TransformerConfig]:
  """The configs of the discriminator and the generator.

  Raises:
    ValueError: the discriminator predicts tokens, or the generator is no
      encoder.
  """
  if not config.head.startswith('rtd') or config.generator == 'unigram':
    raise ValueError(
      f'model.head={config.head!r} and model.generator={config.generator!r}: '
      "the files of ELECTRA's pair hold an encoder that detects replaced "
      'tokens, and one that predicts masked ones. The workdir has the whole '
      'model: train.finetune reads it.'
    )
  return discriminator_config(config), generator_config(config)


def split(tree: dict) -> tuple[dict, dict]:
  """Parameters, or their shardings, of the discriminator and the generator."""
  generator = {
    'embed': tree['embed'] | tree.get('generator_embed', {}),
    'encoder': tree.get('generator', tree['encoder']),
    'vocabulary': tree['vocabulary'],
  }
  return discriminator_params(tree), generator


def join_config(
  folder: str, discriminator: TransformerConfig, generator: TransformerConfig
) -> TransformerConfig:
  """The config of the pair in a folder.

  Raises:
    ValueError: they are not a pair; names what does not agree.
  """
  if (discriminator.head, generator.head) != ('rtd', 'mlm'):
    raise ValueError(
      f"{folder}: the discriminator must have model.head='rtd' and the "
      f"generator 'mlm', not {discriminator.head!r} and {generator.head!r}."
    )
  pair = dataclasses.replace(
    discriminator,
    family='electra',
    **_sizes(discriminator, generator),
  )
  expected = generator_config(pair)
  for field in dataclasses.fields(pair):
    ours, theirs = (getattr(x, field.name) for x in (expected, generator))
    if ours != theirs:
      raise ValueError(
        f'{folder}: the generator has model.{field.name}={theirs!r}; beside '
        f'this discriminator it must have {ours!r}.'
      )
  return pair


def _sizes(discriminator, generator):
  """The fields of the pair's config that give the generator its size."""
  wide, narrow = discriminator.embed_dim, generator.embed_dim
  own = {'generator_dim': narrow}
  if not (wide % narrow or discriminator.mlp_dim % (wide // narrow)):
    own = {'generator_divisor': wide // narrow}
  layers = generator.encoder_layers
  if layers != discriminator.encoder_layers:
    own['generator_layers'] = layers
  return own


def check_size(folder: str, config: TransformerConfig) -> None:
  """Compares the generator's width with the share that the files state.

  Raises:
    ValueError: they differ; names the file.
  """
  for name in NAMES:
    half = os.path.join(folder, name)
    where = os.path.join(half, files.CONFIG)
    share = electra.generator_size(Fields(files.read_config(half), where))
    width = config.generator_sizes['embed_dim']
    if share is not None and abs(share * config.embed_dim / width - 1) > 0.01:
      raise ValueError(
        f'{where}: the generator should have {share:g} of the width, but it '
        f'has {width} of {config.embed_dim}.'
      )


def join(discriminator: dict, generator: dict) -> dict:
  """Parameters of the pair.

  Raises:
    ValueError: the two have different tables.
  """
  tables = discriminator['embed'], generator['embed']
  for path, same in jax.tree_util.tree_leaves_with_path(
    jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), *tables)
  ):
    if not same:
      name = '/'.join(key.key for key in path)
      raise ValueError(
        f'Generator and discriminator differ in embed/{name}, which they '
        'share here: they come from different runs, or from one whose '
        "model.generator_shares is 'none' or 'tokens'."
      )
  return discriminator | {
    'generator': generator['encoder'],
    'vocabulary': generator['vocabulary'],
  }
