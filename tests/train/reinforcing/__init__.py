"""Tests of learning from rewards."""
