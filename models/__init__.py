"""Model definitions: pure functions of (parameters, batch, rng).

Letters of the shape comments and einsums, everywhere in this package:

  B batch           D model width          V vocabulary
  T query length    F mlp width            L layers
  S key length      H width of a head      P predicted positions
  N query heads     K key/value heads      E width of the token table
  C classes         R distances, or rotated dimensions
  G = N / K query heads that share one key/value head
"""
