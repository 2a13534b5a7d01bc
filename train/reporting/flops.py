"""Floating-point operations: of a step, and of a device in a second."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from input_pipeline.config import data_config
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
from models.families.electra import generator_config
from train.learning.tuning import make_tuning

# Peak bfloat16 FLOP/s of a jax device, dense, from the vendors' data sheets.
# The first entry that `device_kind` starts with counts.
PEAKS = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,  # v5e
  'TPU v5e': 197e12,
  'TPU v5': 459e12,  # v5p
  'TPU v6': 918e12,  # v6e
  'NVIDIA A100': 312e12,
  'NVIDIA H100 PCIe': 756e12,
  'NVIDIA H100 NVL': 835e12,
  'NVIDIA H100': 989.4e12,
  'NVIDIA H200': 989.4e12,
}


def peak_flops(device: jax.Device) -> float | None:
  """Peak bfloat16 FLOP/s of a device; None if it is not known."""
  kinds = filter(device.device_kind.startswith, PEAKS)
  return PEAKS.get(next(kinds, None))


def run_flops(config: ConfigDict) -> float:
  """Floating-point operations of a whole run, through all of its phases."""
  return sum((last - first) * each for first, last, each in _spans(config))


def flops_after(config: ConfigDict, steps: ArrayLike) -> np.ndarray:
  """Those of a run's first updates, so many `steps`, as float64."""
  steps = np.asarray(steps, np.float64)
  found = np.zeros_like(steps)
  for first, last, each in _spans(config):
    found += each * np.clip(steps - first, 0, last - first)
  return found


def _spans(config: ConfigDict) -> Iterator[tuple[int, int, float]]:
  """(first, last, operations of a step) of steps that are alike.

  The steps after `first` up to `last` belong to it.
  """
  data, steps = data_config(config), config.train.steps
  model = TransformerConfig(**config.model)
  for phase in data.plan:
    last = steps if phase.last is None else phase.last
    shapes = batch_shapes(data.at(phase), config.model.family)
    batch = {
      name: jax.ShapeDtypeStruct((phase.batch, *tail), dtype)
      for name, (tail, dtype) in shapes.items()
    }
    for first, until, learner in make_tuning(config).parts:
      own = max(phase.first, first), min(last, until)
      if own[0] < own[1]:
        yield *own, step_flops(model, batch, learner)


def step_flops(
  config: TransformerConfig, batch: dict[str, Any], learner: str = ''
) -> float:
  """Floating-point operations of one training step, all devices together.

  The convention of PaLM (Chowdhery et al. 2022, appendix B): matrix products
  alone, once forward and twice backward. What remat computes again does not
  count; masked attention counts in full. The batch is of arrays or shapes.
  `learner` is the part of ELECTRA that a stage trains, see
  `tuning.Tuning.parts`; '': both.
  """
  c = config
  *rows, T = batch['inputs'].shape
  B = math.prod(rows)  # of a choice, several rows an example
  predicted = 0  # tokens
  if 'targets' in batch:
    predicted = B * batch['targets'].shape[1]
  elif c.head == 'sequence_lm':
    predicted = B * T
  head = c  # the config of the stack that predicts tokens
  match c.family:
    case 'encoder_decoder':
      S = batch['encoder_inputs'].shape[1]
      queries, keys, pairs = _attention(c)
      cross = T * queries + S * keys + T * S * pairs
      forward = _stack(c, c.encoder_layers, B, S, causal=False)
      forward += _stack(c, c.decoder_layers, B, T, causal=True)
      forward += B * c.decoder_layers * cross
    case 'electra':
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      forward += _discriminator_head(c, B, T, predicted)
      if learner:
        return _stage(c, B, T, predicted, learner, forward)
      if c.generator == 'unigram':
        return 3.0 * 2.0 * forward
      head = generator_config(c)
      forward += _stack(head, head.encoder_layers, B, T, causal=False)
      if c.generator == 'adversarial':  # the baseline
        forward += predicted * head.embed_dim
    case 'rwkv':  # five square matrices, and two of the channel mix
      layer = 5 * c.embed_dim**2 + 2 * c.embed_dim * c.mlp_dim
      forward = c.decoder_layers * B * T * layer
    case 'encoder':
      forward = _stack(c, c.encoder_layers, B, T, causal=False)
      if c.head == 'mlm_nsp':  # a row's first token
        forward += B * c.embed_dim * (c.embed_dim + 2)
      elif c.head in ('sequence', 'choice'):
        forward += B * c.embed_dim * (c.embed_dim + (c.classes or 1))
      elif c.head in ('tokens', 'span'):
        forward += B * T * c.embed_dim * (c.classes or 2)
    case 'decoder':
      forward = _stack(c, c.decoder_layers, B, T, causal=not c.prefix)
  return 3.0 * 2.0 * (forward + predicted * _vocabulary(head))


def _stage(
  config: TransformerConfig,
  rows: int,
  length: int,
  predicted: int,
  learner: str,
  discriminator: int,
) -> float:
  """Of a step that trains one part; the generator is run by both stages."""
  c = generator_config(config)
  generator = _stack(c, c.encoder_layers, rows, length, causal=False)
  generator += predicted * _vocabulary(c)
  if learner == 'generator':
    return 3.0 * 2.0 * generator
  return 2.0 * (generator + 3.0 * discriminator)


def _vocabulary(config: TransformerConfig) -> int:
  """Multiplications of a token's logits."""
  c = config
  if c.output_transform:
    return c.table_width * (c.embed_dim + c.vocab_size)
  return c.embed_dim * c.vocab_size


def _discriminator_head(
  config: TransformerConfig, rows: int, length: int, predicted: int
) -> int:
  """Multiplications of the head of ELECTRA's discriminator."""
  c = config
  match c.head:
    case 'replace_mlm':
      return predicted * _vocabulary(c)
    case 'all_tokens_mlm':  # and one logit, of copying
      return rows * length * (_vocabulary(c) + c.embed_dim)
  # A dense layer and one logit.
  return rows * length * c.embed_dim * (c.embed_dim + 1)


def _attention(config: TransformerConfig) -> tuple[int, int, int]:
  """Multiplications per query and its output, key and value, pair of both."""
  c = config
  width = 2 * c.embed_dim * c.head_dim
  return width * c.heads, width * c.kv_heads, 2 * c.heads * c.head_dim


def _stack(
  config: TransformerConfig, layers: int, rows: int, length: int, causal: bool
) -> int:
  """Multiplications of a stack: projected tables, self-attention, MLP."""
  c = config
  mlp = (3 if c.gated else 2) * c.embed_dim * c.mlp_dim
  queries, keys, pairs = _attention(c)
  row = length * (mlp + queries + keys) + length**2 * pairs
  shared = 0  # computed once for all rows
  if c.position == 'transformer_xl':  # queries with distances
    distances = length if causal else 2 * length - 1
    row += length * distances * c.heads * c.head_dim
    shared = distances * c.embed_dim * c.heads * c.head_dim
  projected = 0
  if c.table_dim or c.table_width != c.embed_dim:
    projected = rows * length * c.table_width * c.embed_dim
  return projected + layers * (rows * row + shared)
