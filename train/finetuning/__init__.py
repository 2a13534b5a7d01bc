"""Fine-tuning on labelled tasks: what a config adopts, scores, seeds."""
