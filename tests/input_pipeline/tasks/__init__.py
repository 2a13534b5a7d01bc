"""Tests of labelled tasks."""
