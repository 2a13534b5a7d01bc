"""The papers' tables: a file a paper, a plain record a row."""
