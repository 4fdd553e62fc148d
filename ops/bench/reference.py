"""The reference: one same piece of Python, whose CPU time says how fast the machine is now, shared as it is."""

import statistics
import time

# The pace that CPU figures are told at: that of the hour in which DESIGN.md's figures were measured.
REFERENCE_MS = 42.0
PIECES = 5  # of which the median counts: one alone may meet an interruption


def reference_ms() -> float:
    """Return the CPU time that the piece takes now, in ms."""
    return statistics.median(_piece_ms() for _ in range(PIECES))


def _piece_ms() -> float:
    began = time.process_time()
    sum(n * n % 7 for n in range(400_000))
    return (time.process_time() - began) * 1000
