"""Peaks of devices and whole runs; ../test_fit.py counts those of a step."""

import jax
import pytest

from configs import bert, electra, phases, tree
from input_pipeline.config import data_config
from input_pipeline.objectives.rows import batch_shapes
from models.config import TransformerConfig
from train.reporting.flops import (
  PEAKS,
  peak_flops,
  run_flops,
  step_flops,
)


@pytest.mark.parametrize(
  ('kind', 'peak'),
  [
    ('TPU v4', 275e12),
    ('TPU v5 lite', 197e12),
    ('TPU v5', 459e12),
    ('TPU v5p', 459e12),
    ('TPU v6 lite', 918e12),
    ('NVIDIA A100-SXM4-80GB', 312e12),
    ('NVIDIA H100 80GB HBM3', 989.4e12),
    ('NVIDIA H100 PCIe', 756e12),
    ('NVIDIA H200', 989.4e12),
    ('cpu', None),
  ],
)
def test_peaks(kind, peak):
  class Device:
    device_kind = kind

  assert peak_flops(Device()) == peak
  # No entry hides a later one.
  kinds = list(PEAKS)
  assert not any(
    later.startswith(kind)
    for i, kind in enumerate(kinds)
    for later in kinds[i + 1 :]
  )


@pytest.mark.parametrize(
  ('system', 'published', 'within'),
  [
    ('gpt3:175b', 3.14e23, 0.03),  # Brown et al. 2020, D: without attention
    ('chinchilla:70b', 5.76e23, 0.01),  # Hoffmann et al. 2022, table 3
    ('palm:540b', 2.53e24, 0.01),  # Chowdhery et al. 2022, table 21
    ('llama:size=405b,version=3', 3.8e25, 0.08),  # Llama Team 2024, 3: 6 N D
  ],
)
def test_whole_runs(system, published, within):
  """Through all phases, within what the papers' conventions leave out."""
  found = run_flops(tree.config_of(system))
  assert found == pytest.approx(published, rel=within)


def test_a_run_is_the_sum_of_its_phases():
  config = bert.get_config('base').unlock()
  both = run_flops(config)
  (until, *short), steps = config.train.phases[0], config.train.steps
  assert until == ('steps', 900_000)
  config.train.phases = ()
  long = run_flops(config) / steps
  config.data.length, config.data.predictions = short[1:3]
  short = run_flops(config) / steps
  assert both == pytest.approx(900_000 * short + 100_000 * long)
  assert phases.of(config)[0].length == data_config(config).length == 128


def test_each_of_two_stages_counts_what_it_computes():
  """The generator alone; then it forward, and the discriminator whole."""
  config = electra.get_config('base').unlock()
  config.model.generator_divisor, config.model.generator_shares = 1, 'none'
  model = TransformerConfig(**config.model)
  shapes = batch_shapes(data_config(config), 'electra')
  batch = {
    name: jax.ShapeDtypeStruct((256, *tail), dtype)
    for name, (tail, dtype) in shapes.items()
  }
  both = step_flops(model, batch)
  first, second = (
    step_flops(model, batch, x) for x in ('generator', 'discriminator')
  )
  assert first / 3 + (both - first) == pytest.approx(second, rel=1e-12)
  assert both / 3 < first < second < both
  config.tuning.train = 'two_stage'
  half = config.train.steps // 2
  assert run_flops(config) == pytest.approx(half * (first + second))
