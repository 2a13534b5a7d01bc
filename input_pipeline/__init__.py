"""Text to batches: sources, tokenizers, corruption, packing, tf.data.

TensorFlow, pyarrow and the tokenizers library are imported only inside the
functions that need them, so that synthetic data works without them.

Letters of shapes: B rows of the global batch, S encoder length, T decoder
length, N examples of one length, L tokens of a piece, R raw tokens that fill S
and T after corruption, W places of all arrays of a row side by side.
"""
