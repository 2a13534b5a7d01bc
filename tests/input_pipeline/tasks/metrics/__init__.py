"""Tests of metrics, against the libraries that papers use."""
