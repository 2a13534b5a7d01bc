"""Sweeps: several runs, side by side or in a queue."""
