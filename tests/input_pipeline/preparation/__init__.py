"""Tests of input_pipeline.preparation."""
