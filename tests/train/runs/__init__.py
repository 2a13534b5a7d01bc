"""Tests of train.runs."""
