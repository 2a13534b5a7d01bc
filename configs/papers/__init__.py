"""The papers' tables: one file per paper, one plain record per row."""
