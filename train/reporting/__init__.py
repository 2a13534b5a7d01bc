"""What a run reports: metrics, curves, progress, counts."""
