"""Text to batches: sources, tokenizers, corruption, packing, tf.data.

Imports NumPy and SentencePiece; TensorFlow only inside functions that need it,
so that synthetic data works on a machine without it. Letters of shapes: B rows
of the global batch, S encoder length, T decoder length, N examples of one
length, L tokens of a piece, R raw tokens that fill S and T after corruption.
"""
