"""Tests of the attention kernels, interpreted on the CPU."""
