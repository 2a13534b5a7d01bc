"""Which rows come when: walks over chunks, mixtures, assembly, cursors."""
