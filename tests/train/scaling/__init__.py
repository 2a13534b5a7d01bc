"""Fits of scaling laws."""
