"""Tests of train.comparing."""
