"""Tests of input_pipeline.sources."""
