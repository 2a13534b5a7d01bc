"""Ladders of runs: counts, laws, shapes and plans."""
