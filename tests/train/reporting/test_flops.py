"""Peaks of devices; a step's operations are counted in ../test_fit.py."""

import pytest

from train.reporting.flops import PEAKS, peak_flops


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
