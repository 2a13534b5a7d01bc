"""Alignment recipes: one file per method, for the model of any run."""
