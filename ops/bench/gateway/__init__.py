"""Measures the gateway alone: its CPU time a message that is accepted, answered or streamed, and of idle streams."""
