"""Alignment: what `train.align` has beside the loop."""
