"""Tasks about a customer's account, and what the shop's staff has to look after."""

from collections.abc import Awaitable, Callable
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.caller import asker, language
from actions.forms import CONFIRMED, Events
from actions.idempotency import effect_key
from actions.readers import ORDER_NUMBER
from actions.reading import as_text, day, order_number
from actions.shop import Asker, NotFound, Refused, Shop
from kefu.errors import ActionFailed

Told = tuple[str, dict[str, Any]]
Do = Callable[[Shop, Asker, Tracker], Awaitable[Any]]


class AccountTask(Action):
    """One call to the shop for a known customer; a guest is told what to do instead.

    Args:
        task: names the action.
        shop: where it is done.
        do: the call.
        tell: the response and its blanks, from what the call gave and the language.
        slots: forgotten afterwards.
        asks: whether the form asked for a yes.
        refusals: reasons of the shop that have a response, `utter_TASK_refused_REASON`.
        of_guest: what a guest is told.
    """

    def __init__(
        self,
        task: str,
        shop: Shop,
        do: Do,
        tell: Callable[[Any, str], Told],
        slots: tuple[str, ...] = (),
        asks: bool = False,
        refusals: frozenset[str] = frozenset(),
        of_guest: str = "utter_sign_in_first",
    ) -> None:
        self._task, self._shop, self._do, self._tell, self._slots, self._asks = task, shop, do, tell, slots, asks
        self._refusals, self._of_guest = refusals, of_guest

    def name(self) -> str:
        """Return the name in the domain."""
        return f"action_{self._task}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable, ActionFailed: then nothing is said."""
        who = asker(tracker)
        if who.customer is None:
            told: Told = self._of_guest, {}
        elif self._asks and tracker.slots.get(CONFIRMED) is not True:
            told = "utter_left_as_it_is", {}
        else:
            told = self._told(await self._do(self._shop, who, tracker), language(tracker))
        response, blanks = told
        dispatcher.utter_message(response=response, **blanks)
        return [SlotSet(slot, None) for slot in self._slots]

    def _told(self, found: Any, lang: str) -> Told:
        if isinstance(found, Refused) and found.reason in self._refusals:
            return f"utter_{self._task}_refused_{found.reason}", {}
        if isinstance(found, NotFound):  # a token outlives the account that it was given for
            return "utter_account_not_found", {}
        if isinstance(found, Refused):
            raise ActionFailed(self.name(), "refused for an unknown reason")
        return self._tell(found, lang)


class AskDeletion(Action):
    """Ask for the yes to a deletion: what goes, and after how many days by the shop's rules."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain: the form asks by it."""
        return "action_ask_delete_account_form_confirmed"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable, ActionFailed: then nothing is said."""
        rules = await self._shop.policies(asker(tracker).tenant)
        if isinstance(rules, NotFound):
            raise ActionFailed(self.name(), "the shop has no rules")
        dispatcher.utter_message(response="utter_ask_delete_account", days=rules.account_deleted_after_days)
        return []


class FileComplaint(Action):
    """Write a complaint down for the shop's staff: from anybody, about an order if one was named."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain."""
        return "action_complaint"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter the ticket's number and until when somebody answers."""
        who, words = asker(tracker), as_text(tracker.slots.get("complaint_text"))
        number = order_number(as_text(tracker.slots.get(ORDER_NUMBER)))
        ticket = await self._shop.open_ticket(who, "complaint", words, effect_key(), order=number)
        if isinstance(ticket, (Refused, NotFound)):
            raise ActionFailed(self.name(), "the complaint was not taken")
        by = day(ticket.answer_by.date(), language(tracker))
        dispatcher.utter_message(response="utter_complaint_done", ticket=ticket.number, answer_by=by)
        return [SlotSet("complaint_text", None), SlotSet(ORDER_NUMBER, None)]


def account_tasks(shop: Shop) -> list[Action]:
    """Return every task about accounts."""

    def task(name: str, do: Do, tell: Callable[[Any, str], Told], *slots: str, **more: Any) -> AccountTask:
        return AccountTask(name, shop, do, tell, slots, **more)

    return [
        task(
            "add_address",
            lambda shop, who, tracker: shop.add_address(who, str(tracker.slots["new_address"]), False, effect_key()),
            lambda found, _: ("utter_add_address_done", {"new_address": found.address}),
            "new_address",
            refusals=frozenset({"bad_address", "too_many"}),
        ),
        task(
            "change_name",
            lambda shop, who, tracker: shop.rename(who, str(tracker.slots["account_name"]), effect_key()),
            lambda found, _: ("utter_change_name_done", {"account_name": found.name}),
            "account_name",
            refusals=frozenset({"bad_name"}),
        ),
        task(
            "delete_account",
            lambda shop, who, _: shop.delete_account(who, effect_key()),
            lambda found, lang: ("utter_delete_account_done", {"on": day(found.on, lang)}),
            CONFIRMED,
            asks=True,
        ),
        task(
            "newsletter",
            lambda shop, who, tracker: shop.subscribe(who, tracker.slots["wants_newsletter"] is True, effect_key()),
            lambda found, _: ("utter_newsletter_on" if found else "utter_newsletter_off", {}),
            "wants_newsletter",
        ),
        task(
            "reset_password",
            lambda shop, who, _: shop.reset_password(who, effect_key()),
            lambda found, _: ("utter_reset_password_done", {"sent_to": found}),
            of_guest="utter_reset_password_guest",  # who forgot the password can't sign in first
        ),
        AskDeletion(shop),
        FileComplaint(shop),
    ]
