"""The figures of a bench's rounds: the median, the range of the true median, and whether two builds differ."""

import threading

import pytest

from ops.bench.against import ALIKE, verdict
from ops.bench.reference import Pace
from ops.bench.spread import Spread, ratios, spread


def test_spread_of_few_rounds_goes_from_lowest_to_highest():
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert spread([5.0]) == Spread(5.0, 5.0, 5.0, 1)
    assert spread([]) is None


def test_spread_of_nine_rounds_leaves_the_outermost_out():
    """Source: a binomial table; of 9, 12 and 25 rounds the range leaves out 1, 2 and 7 on each side."""
    for rounds, left_out in ((8, 0), (9, 1), (12, 2), (25, 7)):
        figures = spread([float(number) for number in range(rounds)])
        assert (figures.low, figures.high) == (left_out, rounds - 1 - left_out)


def test_ratio_of_two_builds_compares_the_same_round():
    """A machine that is half as fast in one round changes both figures and not their ratio."""
    assert ratios([10.0, 20.0, 11.0], [5.0, 10.0, 5.5]) == Spread(2.0, 2.0, 2.0, 3)
    assert ratios([10.0, 20.0], [5.0]) == Spread(2.0, 2.0, 2.0, 1)
    assert ratios([], [5.0]) is None


@pytest.mark.parametrize(
    "ratio, words",
    [
        (Spread(0.88, 0.85, 0.9, 9), "12% less"),
        (Spread(1.25, 1.05, 1.6, 9), "25% more"),
        (Spread(1.01, 0.96, 1.05, 9), "no difference"),
        (Spread(1 + ALIKE / 2, 1.001, 1.03, 9), "no difference"),
        (Spread(0.9, 0.7, 1.1, 9), "too wide to tell"),
        (None, "not measured"),
    ],
)
def test_verdict_on_a_ratio_is_a_difference_none_or_undecided(ratio, words):
    assert words in verdict(ratio)


def test_reference_runs_in_a_thread_that_ends_with_the_work():
    with Pace() as pace:
        pass
    assert 0 < pace.reference_ms < 10_000
    assert not [thread for thread in threading.enumerate() if thread.name == "pace"]
