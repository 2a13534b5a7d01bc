"""Tests of train.fitting."""
