"""Floating-point operations: of a step, and of a device in a second."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from configs.scaling.flops import Shape, beside_products, products
from input_pipeline.config import data_config
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
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


def run_flops(config: ConfigDict, convention: str = 'palm') -> float:
  """Floating-point operations of a whole run, through all of its phases.

  Args:
    config: of the run.
    convention: 'palm' or 'exact', see configs/scaling/flops.py.
  """
  return sum(
    (last - first) * each for first, last, each in _spans(config, convention)
  )


def flops_after(config: ConfigDict, steps: ArrayLike) -> np.ndarray:
  """Those of a run's first updates, so many `steps`, as float64."""
  steps = np.asarray(steps, np.float64)
  found = np.zeros_like(steps)
  for first, last, each in _spans(config):
    found += each * np.clip(steps - first, 0, last - first)
  return found


def _spans(
  config: ConfigDict, convention: str = 'palm'
) -> Iterator[tuple[int, int, float]]:
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
        yield *own, step_flops(model, batch, learner, convention)


def step_flops(
  config: TransformerConfig,
  batch: dict[str, Any],
  learner: str = '',
  convention: str = 'palm',
) -> float:
  """Floating-point operations of one training step, all devices together.

  The convention is that of PaLM (Chowdhery et al. 2022, appendix B), or
  'exact'; configs/scaling/flops.py counts them. The batch is of arrays or
  shapes. `learner` is the part of ELECTRA that a stage trains, see
  `tuning.Tuning.parts`; '': both.
  """
  *rows, T = batch['inputs'].shape
  B = math.prod(rows)  # of a choice, several rows an example
  predicted = sources = 0  # tokens of a row
  if 'targets' in batch:
    predicted = batch['targets'].shape[1]
  elif config.head == 'sequence_lm':
    predicted = T
  if 'encoder_inputs' in batch:
    sources = batch['encoder_inputs'].shape[1]
  shape = Shape(B, T, predicted, sources)
  made = products(config, shape, learner)
  return made + (convention == 'exact') * beside_products(config, shape)
