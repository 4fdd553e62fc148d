"""Measures how soon a new worker answers as fast as an old one: `python -m ops.warmup`."""
