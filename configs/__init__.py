"""Configs: a file for each paper, and the table of all keys."""
