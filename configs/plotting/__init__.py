"""The tree as a picture and as a page: `python -m configs.tree --plot=FILE`."""
