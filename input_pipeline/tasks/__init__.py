"""Labelled tasks: their files, formats and metrics."""
