"""Configs, a file a paper, and what every command shares."""
