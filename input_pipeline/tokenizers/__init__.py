"""Text to ids and back: every kind of tokenizer, its files in and out."""
