"""The nightly load test of an installation: scenarios, thresholds, comparison of results. `python -m ops.load`."""
