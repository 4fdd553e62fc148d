"""The one way in which tests wait."""

import pytest

from tests.waiting import eventually, until


@pytest.fixture(params=[until, eventually])
def wait(request):
    """Both ways, each called and awaited alike."""

    async def call(condition, what="the door", **options):
        ended = request.param(condition, what, **options)
        return ended if request.param is until else await ended

    return call


def answers(*values):
    """Return a condition that gives these one by one, raising those that are errors; the last for ever."""
    left = list(values)

    def condition():
        value = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(value, Exception):
            raise value
        return value

    return condition


async def test_the_first_true_value_is_returned(wait):
    assert await wait(answers(0, None, "", "open", "shut")) == "open"


async def test_a_failure_says_what_was_waited_for_how_long_and_the_last_value(wait):
    with pytest.raises(AssertionError, match=r"waited 0\.\d s in vain for the door; last seen: \[\]"):
        await wait(answers(0, []), deadline_s=0.05)


async def test_an_error_that_means_not_yet_is_waited_out_and_named(wait):
    assert await wait(answers(OSError("shut"), "open"), not_yet=(OSError,)) == "open"
    with pytest.raises(AssertionError, match=r"last seen: OSError\('shut'\)"):
        await wait(answers(OSError("shut")), deadline_s=0.05, not_yet=(OSError,))


async def test_any_other_error_ends_the_wait(wait):
    with pytest.raises(KeyError):
        await wait(answers(KeyError("key")), not_yet=(OSError,))


async def test_a_condition_that_holds_is_never_late(wait):
    assert await wait(answers("open"), deadline_s=0)


async def test_a_coroutine_function_is_awaited():
    condition = answers(False, "open")

    async def asked():
        return condition()

    assert await eventually(asked, "the door") == "open"
