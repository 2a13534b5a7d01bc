"""One file per topology: encoder, decoder, encoder-decoder, ELECTRA, RWKV."""
