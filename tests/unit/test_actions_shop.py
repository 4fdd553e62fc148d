"""The shop's client recovers after the shop was slow, and repeats an effect only with the same key."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from actions.shop import MAX_CONNECTIONS, Asker, Cancellation, NotFound, Refused, Shop, ShopUnavailable, TooManyAttempts
from tests.waiting import eventually

BUDGET_S = 0.2
RUSH = 5 * MAX_CONNECTIONS


@asynccontextmanager
async def slow_shop():
    """A shop that knows no orders, and answers only while the gate is open."""
    gate, handling = asyncio.Event(), set()

    async def serve(reader, writer):
        handling.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await gate.wait()
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", gate
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)


async def test_timed_out_calls_of_the_shop_free_their_connections():
    async with slow_shop() as (url, gate):
        shop = Shop(url, "token", BUDGET_S)
        for _ in range(4):
            rush = [shop.order(Asker("demo", "alice"), "20260001") for _ in range(RUSH)]
            results = await asyncio.gather(*rush, return_exceptions=True)
            assert {type(each) for each in results} == {ShopUnavailable}
        gate.set()

        async def back():
            return isinstance(await _answer(shop), NotFound)

        await eventually(back)
        await shop.close()


async def _answer(shop):
    try:
        return await shop.order(Asker("demo", "alice"), "20260001")
    except ShopUnavailable as error:
        return error


CANCELLED = {"status": "cancelled", "fee": "0.00", "refund": "0.00", "currency": "CNY"}
HANG_UP = None


@asynccontextmanager
async def scripted_shop(*answers):
    """A shop with one scripted answer per request: status, body, and header lines; None closes the connection."""
    left, requests = list(answers), []

    async def serve(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0"
                )
                requests.append((head.decode(), await reader.readexactly(int(length.partition(b":")[2]))))
                answer = left.pop(0)
                if answer is HANG_UP:
                    break
                status, body, *more = answer
                lines = b"".join(each + b"\r\n" for each in more)
                writer.write(b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b" % (status, lines, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    shop = Shop(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token", 10.0)
    try:
        yield shop, requests
    finally:
        await shop.close()
        server.close()


def keys(requests):
    lines = [line for head, _ in requests for line in head.lower().split("\r\n")]
    return [line.partition(": ")[2] for line in lines if line.startswith("idempotency-key")]


@pytest.mark.parametrize("first", [HANG_UP, (503, b""), (502, b"")])
async def test_failed_effect_is_retried_with_the_same_key(first):
    async with scripted_shop(first, (201, orjson.dumps(CANCELLED))) as (shop, requests):
        answer = await shop.cancel(Asker("demo", "alice"), "20260001", "key-1", None)
    assert answer == Cancellation(**CANCELLED)
    assert keys(requests) == ["key-1", "key-1"]
    assert requests[0][1] == requests[1][1]


async def test_guests_digits_are_sent_in_the_body_only():
    """URLs and headers may be logged."""
    async with scripted_shop((409, b'{"reason":"shipped"}')) as (shop, requests):
        guest = Asker("demo", guest="guest-7", phone_last4="4711")
        assert await shop.cancel(guest, "20260001", "key-1", "0.00") == Refused("shipped")
    ((head, body),) = requests
    assert "x-guest: guest-7" in head.lower()
    assert "x-customer" not in head.lower()
    assert "4711" not in head
    assert orjson.loads(body) == {"fee": "0.00", "phone_last4": "4711"}


@pytest.mark.parametrize(
    "answer",
    [(200, b"no json"), (200, b"[]"), (201, b"{}"), (409, b"{}"), (409, b"[]"), (400, b"{}"), (401, b"{}"),
     (422, b'{"reason":"x"}'), (500, b""), (302, b""), (429, b"", b"Retry-After: 30")],
)  # fmt: skip
async def test_shop_error_does_not_contain_the_customers_data(answer):
    async with scripted_shop(answer) as (shop, _):
        with pytest.raises(ShopUnavailable) as failed:
            await shop.cancel(Asker("demo", "alice"), "20260001", "key-1", "secret")
    assert "secret" not in str(failed.value)
    assert failed.value.call == "cancel"


@pytest.mark.parametrize("reason", ["already_cancelled", "one_of_later_days"])
async def test_shop_refusal_is_returned_as_a_value_for_any_reason(reason):
    async with scripted_shop((409, orjson.dumps({"reason": reason}))) as (shop, _):
        assert await shop.cancel(Asker("demo", "alice"), "20260001", "key-1", None) == Refused(reason)


@pytest.mark.parametrize("ask", [
    lambda shop, asker: shop.subscribe(asker, False, "key-1"),
    lambda shop, asker: shop.reset_password(asker, "key-1"),
    lambda shop, asker: shop.order(asker, "20260001"),
    lambda shop, asker: shop.open_ticket(replace(asker, customer=None, guest="g"), "complaint", "x", "key-1"),
])  # fmt: skip
async def test_429_of_the_shop_raises_unavailable(ask):
    """Only for a guest's request about an order does 429 mean too many attempts."""
    async with scripted_shop((429, b"", b"Retry-After: 30")) as (shop, _):
        with pytest.raises(ShopUnavailable):
            await ask(shop, Asker("demo", "alice"))


@pytest.mark.parametrize(("said", "wait_s"), [(b"30", 30), (b"Sun, 22 Nov 2026 04:00:00 GMT", 60), (b"", 60)])
async def test_too_many_attempts_carry_the_shops_waiting_time(said, wait_s):
    guest = Asker("demo", guest="guest-7", phone_last4="4711")
    async with scripted_shop((429, b"", b"Retry-After: " + said), (429, b"", b"Retry-After: " + said)) as (shop, _):
        assert await shop.order(guest, "20260001") == TooManyAttempts(wait_s)
        assert await shop.refunds(guest, "20260001") == TooManyAttempts(wait_s)
