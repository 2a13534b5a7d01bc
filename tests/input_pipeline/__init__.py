"""Tests of input_pipeline."""
