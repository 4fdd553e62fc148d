"""A worker that says that it is ready answers its first customers as it answers all others."""

import pytest

from ops.warmup.measure import FIRST, measure


@pytest.mark.timeout(240)
def test_the_first_answers_of_a_new_worker_are_as_fast_as_later_ones(stack):
    found = measure(stack)
    assert len(found.first_ms) == FIRST
    # What is loaded, connected or made at the first customers' expense is seen here.
    assert found.slowdown < 2.5, found
    assert found.fast_s >= found.ready_s
