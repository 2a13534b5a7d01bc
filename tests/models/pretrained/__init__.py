"""Tests of models.pretrained."""
