"""The two functions that tests wait with, `until` and `eventually`."""

import pytest

from tests.waiting import eventually, until


@pytest.fixture(params=[until, eventually])
def wait(request):
    """A coroutine function that waits with either of the two functions."""

    async def call(condition, what="the door", **options):
        ended = request.param(condition, what, **options)
        return ended if request.param is until else await ended

    return call


def answers(*values):
    """Return a condition that gives these values in turn, and the last for ever. It raises values that are errors."""
    left = list(values)

    def condition():
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return condition


async def test_wait_returns_the_first_true_value(wait):
    assert await wait(answers(0, None, "", "open", "shut")) == "open"


async def test_failed_wait_names_condition_duration_and_last_value(wait):
    with pytest.raises(AssertionError, match=r"waited 0\.\d s in vain for the door; last seen: \[\]"):
        await wait(answers(0, []), deadline_s=0.05)


async def test_wait_continues_after_an_expected_error(wait):
    """If it never ends, the failure names the error."""
    assert await wait(answers(OSError("shut"), "open"), not_yet=(OSError,)) == "open"
    with pytest.raises(AssertionError, match=r"last seen: OSError\('shut'\)"):
        await wait(answers(OSError("shut")), deadline_s=0.05, not_yet=(OSError,))


async def test_unexpected_error_ends_the_wait(wait):
    with pytest.raises(KeyError):
        await wait(answers(KeyError("key")), not_yet=(OSError,))


async def test_true_condition_passes_with_a_deadline_of_0(wait):
    assert await wait(answers("open"), deadline_s=0)


async def test_wait_awaits_a_coroutine_function():
    condition = answers(False, "open")

    async def asked():
        return condition()

    assert await eventually(asked, "the door") == "open"
