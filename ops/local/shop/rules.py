"""The shop's rules about an order: pure functions of the order's row, which includes the tenant's rules."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

SHOP_ZONE = timezone(timedelta(hours=8))  # decides what "today" is; China has one time zone, without summer time
OPEN = ("awaiting_payment", "processing")  # states before shipping
PAID = ("paid", "charged_twice")
NO_CANCELLATION = {
    "shipped": "shipped",
    "delivered": "delivered",
    "partly_refunded": "delivered",
    "cancelled": "already_cancelled",
}
NO_ADDRESS = {**NO_CANCELLATION, "cancelled": "cancelled"}

Row = dict[str, Any]


def today(now: float) -> date:
    """Return the present day in the shop's time zone."""
    return datetime.fromtimestamp(now, SHOP_ZONE).date()


def aware(moment: datetime) -> datetime:
    """Return the moment with its time zone. SQLite returns times without a zone; the shop stores UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def day(moment: datetime) -> date:
    """Return the day of a moment in the shop's time zone."""
    return aware(moment).astimezone(SHOP_ZONE).date()


def is_open(moment: datetime, service: Row) -> bool:
    """Return whether the moment is within the shop's service hours."""
    opens, closes = _hours(service)
    return opens <= moment.astimezone(SHOP_ZONE).time() < closes


def due(since: datetime, hours: int, service: Row) -> datetime:
    """Return the moment after that many service hours."""
    opens, closes = _hours(service)
    left, begin = timedelta(hours=hours), since.astimezone(SHOP_ZONE)
    while True:
        begin = max(begin, datetime.combine(begin.date(), opens, SHOP_ZONE))
        end = datetime.combine(begin.date(), closes, SHOP_ZONE)
        if begin + left <= end:
            return begin + left
        left -= max(end - begin, timedelta())
        begin = datetime.combine(begin.date() + timedelta(days=1), opens, SHOP_ZONE)


def _hours(service: Row) -> tuple[time, time]:
    return time.fromisoformat(service["opens"]), time.fromisoformat(service["closes"])


def delivered_on(order: Row, now: float) -> date | None:
    """Return the day of delivery. Demo orders may have a number of days before today instead of a date."""
    if order["delivered_days_ago"] is not None:
        return today(now) - timedelta(days=order["delivered_days_ago"])
    return order["delivered_on"]


def cancellation_fee(order: Row, now: float) -> int | None:
    """Return the fee for cancelling now, in the smallest unit; None if the order can't be cancelled."""
    if order["status"] not in OPEN:
        return None
    rule = order["rules"]["cancellation"]
    free_until = aware(order["placed_at"]) + timedelta(hours=rule["free_hours"])
    if order["status"] == "awaiting_payment" or datetime.fromtimestamp(now, UTC) <= free_until:
        return 0
    # A percentage in whole numbers, with half a cent rounded up.
    return (order["amount_minor"] * rule["fee_percent"] + 50) // 100


def items_changeable(order: Row) -> bool:
    """Return whether quantities can still be changed, which ends with the payment."""
    return order["status"] == "awaiting_payment"


def refund_refused(order: Row, now: float) -> str | None:
    """Return the reason for which a refund is refused, or None."""
    if order["payment_status"] not in PAID:
        return "not_paid"
    if order["open_refund"] or order["refunded_minor"] >= order["amount_minor"]:
        return "already_requested"
    delivered = delivered_on(order, now)
    if order["status"] not in ("delivered", "partly_refunded") or delivered is None:
        return "not_delivered"
    return "too_late" if today(now) > refundable_until(order, delivered) else None


def refundable_until(order: Row, delivered: date) -> date:
    """Return the last day on which a refund may be requested."""
    return delivered + timedelta(days=order["rules"]["refund_days"])


def refundable(order: Row, now: float) -> Row:
    """Return the last day for requesting a refund, or the reason for which it is refused."""
    reason, delivered = refund_refused(order, now), delivered_on(order, now)
    until = refundable_until(order, delivered).isoformat() if delivered and not reason else None
    return {"until": until, "reason": reason}


def money(minor: int) -> str:
    """Return an amount of cents or fen as a decimal string."""
    return f"{minor // 100}.{minor % 100:02d}"


def place(city: str, street: str) -> str:
    """Return city and street in the order of their country."""
    return f"{city}{street}" if not city.isascii() else ", ".join(filter(None, (street, city)))


def masked_email(email: str) -> str:
    """Return an e-mail address of which only the first letter and the host are shown."""
    name, _, host = email.partition("@")
    return f"{name[:1]}***@{host}"


def masked_phone(phone: str) -> str:
    """Return a phone number of which only the last four digits are shown."""
    return "*" * (len(phone) - 4) + phone[-4:]
