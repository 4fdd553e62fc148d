"""Dates, amounts and goods, written as people write them in each language."""

from datetime import date

from actions.shop import Order


def day(value: date, lang: str) -> str:
    """Return a date as people write it in that language."""
    if lang == "en":
        return f"{value.day} {value:%B %Y}"
    return f"{value.year}年{value.month}月{value.day}日"


def money(amount: str, currency: str, lang: str) -> str:
    """Return an amount as people write it in that language."""
    return f"{amount} 元" if lang == "zh" and currency == "CNY" else f"{amount} {currency}"


def goods(order: Order, lang: str) -> str:
    """Return the goods of an order with their quantities, in words."""
    return ("，" if lang == "zh" else ", ").join(f"{item.name[lang]} × {item.quantity}" for item in order.items)
