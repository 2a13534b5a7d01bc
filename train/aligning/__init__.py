"""Learning from preferences and rewards: `python -m train.align`."""
