"""Ladders of runs, planned before anyone pays: `python -m configs.scaling`."""
