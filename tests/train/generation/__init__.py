"""Tests of the texts that models write."""
