"""The HTTP API, one file for each group of calls."""
