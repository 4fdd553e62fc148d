"""A tenant's products, with their search, and its rules."""

import unicodedata
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.models import Policies, Product
from ops.local.shop.rules import money

LISTED = 50
SEARCHED = 1000  # most products that a search reads; further ones are not found

Row = dict[str, Any]


async def policies(connection: AsyncConnection, tenant: str) -> Row | None:
    """Return the tenant's rules, or None."""
    return await connection.scalar(select(Policies.rules).where(Policies.tenant == tenant))


async def products(connection: AsyncConnection, tenant: str, query: str) -> list[Row]:
    """Return the products that fit a query, as the API shows them: the best first, at most 50; all without a query."""
    all_ = select(Product.__table__).where(Product.tenant == tenant).order_by(Product.sku).limit(SEARCHED)
    rows = [dict(row) for row in (await connection.execute(all_)).mappings()]
    wanted = _plain(query)
    ranked = [(rank, row) for row in rows if (rank := _rank(wanted, row)) is not None]
    best = sorted(ranked, key=lambda pair: pair[0])[:LISTED]
    return [_shown(row) for _, row in best]


def _rank(wanted: str, row: Row) -> int | None:
    """Return how well a product fits, 0 being best, or None if it does not."""
    names = [_plain(name) for name in (row["name_zh"], row["name_en"], *row["synonyms"])]
    if wanted in names:
        return 0
    if any(f" {wanted}" in f" {name}" for name in names):  # at the beginning of a word: "phone case", not "earphone"
        return 1
    if any(wanted in name for name in names):
        return 2
    # The name is a part of the query: "power banks", "有没有充电宝".
    return 3 if any(name in wanted for name in names) else None


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _shown(row: Row) -> Row:
    kept = ("sku", "name_zh", "name_en", "currency", "stock", "warranty_months", "features_zh", "features_en")
    return {**{name: row[name] for name in kept}, "price": money(row["price_minor"])}
