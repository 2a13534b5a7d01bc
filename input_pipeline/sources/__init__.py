"""Where documents come from: files, datasets, token caches, embedded text."""
