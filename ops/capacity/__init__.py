"""How many pods a load needs, when they come, what customers feel and what it costs: `python -m ops.capacity`."""
