"""Adds customers with one order each to the demo shop, which has too few customers for a bench."""

import sqlite3
from pathlib import Path

from ops.bench.scripts import ORDER_NUMBERS, order_number

# Copies of the demo's first shipped order and its customer, with other ids.
_CUSTOMER = """\
INSERT OR IGNORE INTO customers (tenant, id, name, phone, email, address, city)
SELECT tenant, 'bench-' || ?, name, phone, email, address, city FROM customers WHERE tenant = 'demo' AND id = 'alice'
"""
_ORDER = """\
INSERT OR IGNORE INTO orders SELECT {columns} FROM orders WHERE tenant = 'demo' AND number = '20260001'
"""


def add_customers(database: Path, first: int = 0, count: int = ORDER_NUMBERS) -> None:
    """Add `count` customers from `bench-<first>` on, each with the order of `scripts.order_number`."""
    with sqlite3.connect(database, timeout=30) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(orders)")]
        own = {"number": "?", "customer_id": "'bench-' || ?"}
        order = _ORDER.format(columns=", ".join(own.get(name, name) for name in names))
        numbers = range(first, first + count)
        connection.executemany(_CUSTOMER, [(number,) for number in numbers])
        connection.executemany(order, [(order_number(number), number) for number in numbers])
    connection.close()
