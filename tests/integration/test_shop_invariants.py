"""Invariants of the shop under any tasks and kills: pieces and money are conserved."""

import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import select, text

from ops.local.shop import tasks
from ops.local.shop.database import open_engine, prepare
from ops.local.shop.idempotency import Answers, Asked
from ops.local.shop.models import Order, Product, Refund
from ops.local.shop.rules import PAID
from ops.local.shop.store import Store
from tests.integration.shop_calls import Orders, ask, new_key, path
from tests.integration.shop_fixtures import running_shop, stop

STEPS = 400
SHIPMENT = {"carrier_zh": "顺丰速运", "carrier_en": "SF Express", "tracking_number": "SF1"}


def any_step(chance: random.Random):
    """Return a random task and the fields of its request."""
    return chance.choice(
        [
            (tasks.cancel, {"reason": None, "fee": None}),
            (tasks.change_item, {"item": chance.randint(0, 2), "quantity": chance.randint(0, 12)}),
            (tasks.change_item, {"item": 1, "quantity": chance.randint(1, 10)}),
            (tasks.change_address, {"address": f"{chance.randint(1, 9)} Larch Street"}),
            (tasks.request_refund, {"reason": "x"}),
            (tasks.request_invoice, {"title": "x"}),
            (tasks.ship, SHIPMENT),
        ]
    )


async def everything(store: Store):
    """Return all orders by number, pieces in stock by SKU, refunds by order."""
    async with store.reading() as connection:
        orders = {row["number"]: dict(row) for row in (await connection.execute(select(Order.__table__))).mappings()}
        stock = dict((await connection.execute(select(Product.sku, Product.stock))).all())
        refunds: dict[str, list] = {}
        for row in (await connection.execute(select(Refund.__table__))).mappings():
            refunds.setdefault(row["number"], []).append(row)
    return orders, stock, refunds


def pieces(orders, stock):
    """Return the number of pieces of each product: those in stock and those of orders that are not cancelled."""
    total = dict(stock)
    for order in orders.values():
        if order["status"] != "cancelled":
            for item in order["items"]:
                total[item["sku"]] += item["quantity"]
    return total


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_sequence_of_tasks_conserves_pieces_and_money(database_url, seed):
    """Pieces are in stock or in orders that stand; no refund exceeds the amount paid."""
    await prepare(database_url)
    engine = open_engine(database_url)
    store, chance, now = Store(engine), random.Random(seed), time.time()
    answers = Answers(store)
    before, stock, _ = await everything(store)
    numbers = sorted(before)[:60] + ["20260003"] * 10  # 20260003 is the order that can be refunded
    statuses = set()
    for n in range(STEPS):
        (perform, asked), number = any_step(chance), chance.choice(numbers)
        now += chance.choice([0, 60, 900])
        at = Asked("demo", "customer:x", f"k{n}", "f")

        async def effect(connection, number=number, asked=asked, now=now, perform=perform):
            return await tasks.performed(connection, "demo", number, asked, now, perform)

        answer = await answers.once(at, effect)
        statuses.add((perform.__name__, answer.status))
    orders, left, refunds = await everything(store)
    await engine.dispose()
    assert pieces(orders, left) == pieces(before, stock)
    assert min(left.values()) >= 0
    for number, order in orders.items():
        owed = sum(refund["amount_minor"] for refund in refunds.get(number, []))
        assert owed <= order["amount_minor"]
        assert owed == 0 or order["payment_status"] in PAID
        assert order["amount_minor"] == sum(item["price_minor"] * item["quantity"] for item in order["items"])
    # The sequence is long enough: each task succeeded at least once, and some were refused.
    done = {name for name, status in statuses if status < 300}
    assert done == {"cancel", "change_item", "change_address", "request_refund", "request_invoice", "ship"}
    assert {status for _, status in statuses} == {200, 201, 409}


async def test_killed_shop_cancels_each_order_wholly_or_not_at_all(database_url, tmp_path):
    """kill -9 during 40 cancellations; repeated after a restart, each order is cancelled and refunded once."""
    orders, keys = Orders(), {}
    rows = [orders.take("processing", lambda row: row["payment_status"] in PAID) for _ in range(40)]
    with running_shop(tmp_path, database_url) as shop:
        done = threading.Event()

        def cancel(row) -> int | None:
            key = keys.setdefault(row["number"], new_key())
            try:
                answer = ask(shop, "POST", path(row, "cancellation"), row["customer_id"], key=key)
            except httpx.TransportError:
                return None
            done.set()
            return answer.status_code

        with ThreadPoolExecutor(8) as pool:
            outcomes = [pool.submit(cancel, row) for row in rows]
            assert done.wait(30)
            stop(shop.process, signal.SIGKILL)
        answered = [outcome.result() for outcome in outcomes]
    assert None in answered, "the shop was killed too late: every request had an answer"
    with running_shop(tmp_path, database_url) as shop:
        again = [
            ask(shop, "POST", path(row, "cancellation"), row["customer_id"], key=keys[row["number"]]) for row in rows
        ]
        assert {answer.status_code for answer in again} == {201}
        for row in rows:
            refunds = ask(shop, "POST", path(row, "refund-lookups"), row["customer_id"]).json()["refunds"]
            assert len(refunds) == 1
    engine = open_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM answered WHERE status = 0")) == 0
    await engine.dispose()
