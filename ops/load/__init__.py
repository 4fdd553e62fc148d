"""The nightly proof: scenarios, thresholds, results kept and compared. `python -m ops.load`."""
