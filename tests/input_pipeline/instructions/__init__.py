"""Tests of input_pipeline/instructions/."""
