"""Tests of train.parallel."""
