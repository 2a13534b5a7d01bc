"""Scaling laws fitted to runs: `python -m train.scaling` (docs/scaling.md)."""
