"""Tests of input_pipeline.streams."""
