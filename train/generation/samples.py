"""Samples of a run: what its model writes for held-out examples."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import NamedSharding, PartitionSpec

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from models import decoding
from train.generation.prompts import first_examples, show, target_length
from train.parallel import compilation
from train.setup import Setup


def first_rows_of(setup: Setup, rows: int) -> Callable[[dict], dict]:
  """Batch -> `first_examples` of it, on this host."""
  first = compilation.jit(
    functools.partial(first_examples, rows=rows),
    setup.mesh,
    out_shardings=NamedSharding(setup.mesh, PartitionSpec()),
  )

  def run(batch: dict) -> dict:
    return jax.device_get(first(batch))

  return run


def make_sampling(
  setup: Setup, data: pipeline.Data, rows: int
) -> Callable[[Any, dict, DataConfig], str]:
  """params, batch, config of the data -> what the model writes, as text.

  The config is that of the phase whose rows the batch has. The first `rows`
  rows are decoded greedily.
  """
  first_rows = first_rows_of(setup, rows)

  def decode(params, source, segments, length):
    return decoding.decode(
      params, source, segments, model=setup.model, length=length,
      eos=data.end_id, start=data.start_id,
      vocabulary=data.tokenizer.size,
    ).tokens  # fmt: skip

  run = compilation.jit(
    decode,
    setup.mesh,
    static_argnames='length',
    out_shardings=NamedSharding(setup.mesh, PartitionSpec()),
  )

  def sample(params: Any, batch: dict, config: DataConfig) -> str:
    examples = first_rows(batch)
    source, segments = examples['source'], examples['segments']
    length = target_length(setup.model.config, config)
    most = decoding.room(setup.model.config, segments)
    length = length if most is None else min(length, most)
    # A few rows need no rules of a mesh: all devices decode all of them.
    with jax.set_mesh(setup.mesh), nn.logical_axis_rules(()):
      tokens = run(params, source, segments, length=length)
    tokens = jax.device_get(tokens)
    return show(data.tokenizer, examples, tokens, data.end_id)

  return sample
