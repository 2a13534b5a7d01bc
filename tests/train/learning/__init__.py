"""Tests of train.learning."""
