"""Tasks about a customer's account, and complaints to the shop's staff."""

from collections.abc import Awaitable, Callable
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.caller import asker, language
from actions.formatting import day
from actions.forms import CONFIRMED, Events
from actions.idempotency import effect_key
from actions.numbers import as_text, order_number
from actions.readers import ORDER_NUMBER
from actions.shop import Asker, NotFound, Refused, Shop
from kefu.errors import ActionFailed

Reply = tuple[str, dict[str, Any]]  # a response of the domain, and the values for its blanks
Do = Callable[[Shop, Asker, Tracker], Awaitable[Any]]


class AccountTask(Action):
    """An action that makes one call to the shop for a known customer, and replies with the result.

    A guest gets a response that says what to do instead.

    Args:
        task: name of the action, without `action_`.
        shop: client of the shop that does the task.
        do: makes the call to the shop.
        tell: returns the reply, given the call's result and the language.
        slots: slots that are emptied afterwards.
        asks: whether the form asked for a yes, without which the call is not made.
        refusals: the shop's reasons that have a response, `utter_TASK_refused_REASON`.
        of_guest: the response to a guest.
    """

    def __init__(
        self,
        task: str,
        shop: Shop,
        do: Do,
        tell: Callable[[Any, str], Reply],
        slots: tuple[str, ...] = (),
        asks: bool = False,
        refusals: frozenset[str] = frozenset(),
        of_guest: str = "utter_sign_in_first",
    ) -> None:
        self._task, self._shop, self._do, self._tell, self._slots, self._asks = task, shop, do, tell, slots, asks
        self._refusals, self._of_guest = refusals, of_guest

    def name(self) -> str:
        """Return the action's name in the domain."""
        return f"action_{self._task}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Make the call and utter one response. Raises ShopUnavailable or ActionFailed, before anything is uttered."""
        who = asker(tracker)
        if who.customer is None:
            reply: Reply = self._of_guest, {}
        elif self._asks and tracker.slots.get(CONFIRMED) is not True:
            reply = "utter_left_as_it_is", {}
        else:
            reply = self._reply(await self._do(self._shop, who, tracker), language(tracker))
        response, blanks = reply
        dispatcher.utter_message(response=response, **blanks)
        return [SlotSet(slot, None) for slot in self._slots]

    def _reply(self, result: Any, lang: str) -> Reply:
        if isinstance(result, Refused) and result.reason in self._refusals:
            return f"utter_{self._task}_refused_{result.reason}", {}
        if isinstance(result, NotFound):  # a token stays valid after its account was deleted
            return "utter_account_not_found", {}
        if isinstance(result, Refused):
            raise ActionFailed(self.name(), "refused for an unknown reason")
        return self._tell(result, lang)


class AskDeletion(Action):
    """Ask for a yes to the deletion of the account; the question says after how many days the shop deletes it."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain: the form asks for its slot `confirmed` by this action."""
        return "action_ask_delete_account_form_confirmed"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter the question. Raises ShopUnavailable or ActionFailed, before anything is uttered."""
        rules = await self._shop.policies(asker(tracker).tenant)
        if isinstance(rules, NotFound):
            raise ActionFailed(self.name(), "the shop has no rules")
        dispatcher.utter_message(response="utter_ask_delete_account", days=rules.account_deleted_after_days)
        return []


class FileComplaint(Action):
    """Open a ticket with a customer's or guest's complaint, about an order if the customer named one."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_complaint"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter the ticket's number and the day by which the shop's staff answers."""
        who, words = asker(tracker), as_text(tracker.slots.get("complaint_text"))
        number = order_number(as_text(tracker.slots.get(ORDER_NUMBER)))
        ticket = await self._shop.open_ticket(who, "complaint", words, effect_key(), order=number)
        if isinstance(ticket, (Refused, NotFound)):
            raise ActionFailed(self.name(), "the complaint was not taken")
        by = day(ticket.answer_by.date(), language(tracker))
        dispatcher.utter_message(response="utter_complaint_done", ticket=ticket.number, answer_by=by)
        return [SlotSet("complaint_text", None), SlotSet(ORDER_NUMBER, None)]


def account_tasks(shop: Shop) -> list[Action]:
    """Return every action about accounts."""

    def task(name: str, do: Do, tell: Callable[[Any, str], Reply], *slots: str, **more: Any) -> AccountTask:
        return AccountTask(name, shop, do, tell, slots, **more)

    return [
        task(
            "add_address",
            lambda shop, who, tracker: shop.add_address(who, str(tracker.slots["new_address"]), False, effect_key()),
            lambda address, _: ("utter_add_address_done", {"new_address": address.address}),
            "new_address",
            refusals=frozenset({"bad_address", "too_many"}),
        ),
        task(
            "change_name",
            lambda shop, who, tracker: shop.rename(who, str(tracker.slots["account_name"]), effect_key()),
            lambda account, _: ("utter_change_name_done", {"account_name": account.name}),
            "account_name",
            refusals=frozenset({"bad_name"}),
        ),
        task(
            "delete_account",
            lambda shop, who, _: shop.delete_account(who, effect_key()),
            lambda deletion, lang: ("utter_delete_account_done", {"on": day(deletion.on, lang)}),
            CONFIRMED,
            asks=True,
        ),
        task(
            "newsletter",
            lambda shop, who, tracker: shop.subscribe(who, tracker.slots["wants_newsletter"] is True, effect_key()),
            lambda subscribed, _: ("utter_newsletter_on" if subscribed else "utter_newsletter_off", {}),
            "wants_newsletter",
        ),
        task(
            "reset_password",
            lambda shop, who, _: shop.reset_password(who, effect_key()),
            lambda sent_to, _: ("utter_reset_password_done", {"sent_to": sent_to}),
            of_guest="utter_reset_password_guest",  # a customer without a password can't sign in first
        ),
        AskDeletion(shop),
        FileComplaint(shop),
    ]
