"""Texts that a model writes: prompts in, answers out."""
