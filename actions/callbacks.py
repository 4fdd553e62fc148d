"""A call back: when it suits the customer, read from what NLU found, and asked for at the shop."""

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.caller import asker, language
from actions.idempotency import effect_key
from actions.reading import as_text, day
from actions.shop import Asker, NotFound, Refused, Shop
from kefu.errors import ActionFailed

CALLBACK_TIME = "callback_time"
SOON = "soon"
SHOP_ZONE = timezone(timedelta(hours=8))  # as config.yml's entities have it
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_CLOCK = re.compile(r"\b\d\d:\d\d\b")
_SOON = re.compile(
    r"现在|马上|立刻|尽快|越快越好|随时|都行|都可以|\b(?:now|asap|as soon as|any ?time|right away|whenever|soon)\b",
    re.I,
)
# Parts of a day, where no clock is named.
_PARTS = (
    (re.compile(r"上午|早上|一早|\bmorning\b", re.I), "10:00"),
    (re.compile(r"中午|\bnoon\b|\bmidday\b|\blunch", re.I), "12:00"),
    (re.compile(r"下午|\bafternoon\b", re.I), "15:00"),
    (re.compile(r"晚上|傍晚|今晚|\bevening\b|\btonight\b", re.I), "19:00"),
)
_ANY_HOUR = "10:00"  # of a day that is named without one


def when(told: str) -> str | None:
    """Return `soon`, `HH:MM`, or `YYYY-MM-DD HH:MM`; None where no time is told, or one that there isn't.

    Args:
        told: the values of date and time that NLU found, if any, before the customer's words.
    """
    on, at = _DATE.search(told), _CLOCK.search(told)
    clock = at.group() if at else next((hour for words, hour in _PARTS if words.search(told)), None)
    if not on and not clock:
        return SOON if _SOON.search(told) else None
    clock = clock or _ANY_HOUR
    try:
        time.fromisoformat(clock)
        date.fromisoformat(on.group() if on else "2000-01-01")
    except ValueError:
        return None
    return f"{on.group()} {clock}" if on else clock


def moment(told: str, said_at: datetime) -> datetime | None:
    """Return the moment that `when` found, seen from when the customer said it; None for soon.

    A weekday that was meant ahead may have been read as the last one, and an hour that is over today is tomorrow's.
    """
    if told == SOON:
        return None
    *on, at = told.split()
    today = said_at.astimezone(SHOP_ZONE).date()
    chosen = date.fromisoformat(on[0]) if on else today
    if today - timedelta(days=7) <= chosen < today:
        chosen += timedelta(days=7)
    found = datetime.combine(chosen, time.fromisoformat(at), SHOP_ZONE)
    return found + timedelta(days=1) if found <= said_at and not on else found


class RequestCallback(Action):
    """Have the shop's staff call the customer, at the number that the shop knows."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain."""
        return "action_callback"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> list[Any]:
        """Utter when the call comes. Raises ShopUnavailable, ActionFailed: then nothing is said."""
        who, told = asker(tracker), as_text(tracker.slots.get(CALLBACK_TIME))
        done = [SlotSet(CALLBACK_TIME, None)]
        if who.customer is None:
            dispatcher.utter_message(response="utter_sign_in_first")
            return done
        said_at = _said_at(tracker)
        at = moment(told, said_at)
        call_at = at.isoformat() if at else None
        ticket = await self._shop.open_ticket(who, "callback", f"call back: {told}", effect_key(), call_at=call_at)
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
        """Utter why nobody can call then: it is over, or outside the service hours, which are told."""
        if not ahead:
            dispatcher.utter_message(response="utter_callback_over")
            return
        rules = await self._shop.policies(who.tenant)
        if isinstance(rules, NotFound):
            raise ActionFailed(self.name(), "the shop has no rules")
        dispatcher.utter_message(response="utter_callback_closed", hours=rules.service["hours"][lang])


def _said_at(tracker: Tracker) -> datetime:
    said = [event["timestamp"] for event in tracker.events if event["event"] == "user" and event.get("timestamp")]
    return datetime.fromtimestamp(said[-1], UTC) if said else datetime.now(UTC)
