"""Text to batches: sources, tokenizers, corruption, packing, tf.data.

Imports NumPy and SentencePiece; TensorFlow and the tokenizers library only
inside functions that need them, so that synthetic data works on a machine
without. Letters of shapes: B rows of the global batch, S encoder length, T
decoder length, N examples of one length, L tokens of a piece, R raw tokens that
fill S and T after corruption, W places of all arrays of a row side by side.
"""

import os

from configs import interrupt, memory

interrupt.watch_imports()
memory.check_limit()

# TensorFlow only reads data here: no notices of its build, nor its own account
# of an error that is raised anyway. 1 is what jax, imported before, has set.
if os.environ.get('TF_CPP_MIN_LOG_LEVEL', '1') == '1':
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
