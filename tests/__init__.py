"""Tests of every package, in folders that mirror them."""
