"""Tests of train.reporting."""
