"""Configs: a file a paper, the table of keys, and what all commands share."""
