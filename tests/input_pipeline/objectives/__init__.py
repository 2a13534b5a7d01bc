"""Tests of input_pipeline.objectives."""
