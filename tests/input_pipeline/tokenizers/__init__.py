"""Tests of input_pipeline.tokenizers."""
