"""The tree's picture and page."""
