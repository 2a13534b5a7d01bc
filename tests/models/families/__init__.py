"""Tests of models.families."""
