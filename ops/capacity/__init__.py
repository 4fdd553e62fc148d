"""Forecasts pods, latency and cost of a load: `python -m ops.capacity`."""
