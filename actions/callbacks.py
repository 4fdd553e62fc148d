"""Call backs: reads the wanted time from a message, and opens a ticket for the shop's staff to call the customer."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.caller import asker, language
from actions.formatting import day
from actions.idempotency import effect_key
from actions.numbers import as_text
from actions.shop import Asker, NotFound, Refused, Shop
from kefu.errors import ActionFailed

CALLBACK_TIME = "callback_time"
SOON = "soon"
SHOP_ZONE = timezone(timedelta(hours=8))  # config.yml reads dates and times in the same zone
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_CLOCK = re.compile(r"\b\d\d:\d\d\b")
_SOON = re.compile(
    r"现在|马上|立刻|尽快|越快越好|随时|都行|都可以|\b(?:now|asap|as soon as|any ?time|right away|whenever|soon)\b",
    re.I,
)
# The hour of a part of the day, for a message without a clock time.
_PARTS = (
    (re.compile(r"上午|早上|一早|\bmorning\b", re.I), "10:00"),
    (re.compile(r"中午|\bnoon\b|\bmidday\b|\blunch", re.I), "12:00"),
    (re.compile(r"下午|\bafternoon\b", re.I), "15:00"),
    (re.compile(r"晚上|傍晚|今晚|\bevening\b|\btonight\b", re.I), "19:00"),
)
_ANY_HOUR = "10:00"  # the time for a message that names only a day


def when(text: str) -> str | None:
    """Return the wanted time as `soon`, `HH:MM` or `YYYY-MM-DD HH:MM`; None for no time or an impossible time.

    Args:
        text: the values of the entities date and time, if any, then the customer's words.
    """
    on, at = _DATE.search(text), _CLOCK.search(text)
    clock = at.group() if at else next((hour for words, hour in _PARTS if words.search(text)), None)
    if not on and not clock:
        return SOON if _SOON.search(text) else None
    clock = clock or _ANY_HOUR
    try:
        time.fromisoformat(clock)
        date.fromisoformat(on.group() if on else "2000-01-01")
    except ValueError:
        return None
    return f"{on.group()} {clock}" if on else clock


def moment(wanted: str, said_at: datetime) -> datetime | None:
    """Return the time that `when` returned as a datetime; None for `soon`.

    A date within the last seven days is moved a week ahead, because NLU reads a weekday as the last such day. An hour
    without a date that is over today means tomorrow's.

    Args:
        wanted: the result of `when`.
        said_at: when the customer named the time.
    """
    if wanted == SOON:
        return None
    *on, at = wanted.split()
    today = said_at.astimezone(SHOP_ZONE).date()
    chosen = date.fromisoformat(on[0]) if on else today
    if today - timedelta(days=7) <= chosen < today:
        chosen += timedelta(days=7)
    call_at = datetime.combine(chosen, time.fromisoformat(at), SHOP_ZONE)
    return call_at + timedelta(days=1) if call_at <= said_at and not on else call_at


class RequestCallback(Action):
    """Ask the shop's staff to call the customer at the phone number of the account."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_callback"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> list[Any]:
        """Open the ticket and utter when the call comes.

        Raises:
            ShopUnavailable, ActionFailed: the shop did not take the ticket; nothing is uttered.
        """
        who, wanted = asker(tracker), as_text(tracker.slots.get(CALLBACK_TIME))
        done = [SlotSet(CALLBACK_TIME, None)]
        if who.customer is None:
            dispatcher.utter_message(response="utter_sign_in_first")
            return done
        said_at = _said_at(tracker)
        at = moment(wanted, said_at)
        call_at = at.isoformat() if at else None
        ticket = await self._shop.open_ticket(who, "callback", f"call back: {wanted}", effect_key(), call_at=call_at)
        if isinstance(ticket, Refused) and ticket.reason == "bad_call_at":
            await self._refuse(who, language(tracker), at is not None and at > said_at, dispatcher)
            return done
        if isinstance(ticket, (Refused, NotFound)):
            raise ActionFailed(self.name(), "the call back was not taken")
        by = ticket.answer_by.astimezone(SHOP_ZONE)
        spoken = f"{day(by.date(), language(tracker))} {by:%H:%M}"
        response = "utter_callback_done" if at else "utter_callback_soon"
        dispatcher.utter_message(response=response, ticket=ticket.number, at=spoken)
        return done

    async def _refuse(self, who: Asker, lang: str, ahead: bool, dispatcher: CollectingDispatcher) -> None:
        """Utter why the shop refused the time: it is in the past, or outside the service hours, which are named."""
        if not ahead:
            dispatcher.utter_message(response="utter_callback_over")
            return
        rules = await self._shop.policies(who.tenant)
        if isinstance(rules, NotFound):
            raise ActionFailed(self.name(), "the shop has no rules")
        dispatcher.utter_message(response="utter_callback_closed", hours=rules.service["hours"][lang])


def _said_at(tracker: Tracker) -> datetime:
    """Return the time of the customer's latest message."""
    times = [event["timestamp"] for event in tracker.events if event["event"] == "user" and event.get("timestamp")]
    return datetime.fromtimestamp(times[-1], UTC) if times else datetime.now(UTC)
