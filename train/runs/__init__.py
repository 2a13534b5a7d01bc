"""A run in its folder: config, checkpoints, history, opening it again."""
