"""Which rows come when: chunks, mixtures, seeds, cursors, and batches."""
