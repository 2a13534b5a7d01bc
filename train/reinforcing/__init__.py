"""Learning from rewards: answers are written, scored and learned from."""
