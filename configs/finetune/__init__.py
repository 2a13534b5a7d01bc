"""Fine-tuning recipes: one file per paper, on top of its pretraining config."""
