"""One file per published layout of config.json and tensors."""
