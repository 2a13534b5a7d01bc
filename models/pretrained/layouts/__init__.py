"""One file for each layout of published checkpoints (see ../layout.py)."""
