"""Tasks that a language model is asked, as it is or after a few examples."""
