"""Tests of input_pipeline/chat/."""
