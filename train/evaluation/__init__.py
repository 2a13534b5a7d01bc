"""What a model knows: likelihoods, perplexities, prompted tasks."""
