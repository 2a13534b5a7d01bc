"""Fine-tuning recipes: a file a paper, on top of its pretraining config."""
