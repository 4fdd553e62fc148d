"""What each task needs to know: its form's slots, how they are read from a message, when to ask for a yes.

One `TaskForm` a task; a new task is one line in `task_forms`. The forms' names and slots are those of the domain.
"""

from dataclasses import dataclass
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher
from rasa_sdk.forms import REQUESTED_SLOT

from actions import free_text, looks
from actions.callbacks import CALLBACK_TIME
from actions.caller import asker, language
from actions.heard import Heard
from actions.looks import Details, Look
from actions.readers import NUMBERS, ORDER_NUMBER, PHONE_LAST4, READERS, Reader, named
from actions.reading import as_text
from actions.shop import NotFound, Order, Shop

CONFIRMED = "confirmed"
LAST_ORDER_NUMBER = "last_order_number"
# What a customer means who gives what was asked for, and nothing else.
ANSWERS = frozenset({"inform", "affirm", "deny", "nlu_fallback", "out_of_scope", "", None})
# The same for an answer in the customer's own words, which may sound like much.
FREE_ANSWERS = frozenset({"inform", "nlu_fallback", "out_of_scope", "chitchat", "complaint", "review", "", None})
NOTHING = object()  # is given for a slot; None is what was meant for it and can't be it
Events = list[dict[str, Any]]


@dataclass(frozen=True)
class TaskForm(Action):
    """Checks what a form collected and names what to ask next; the domain isn't needed, so a call is small.

    Attributes:
        form: its name in the domain.
        intents: that begin the task; said again within it they bring data, not another topic.
        slots: to be known, in the order of asking. After an order's number a guest is asked for the phone's end.
        shop: where the order is looked at before anything else is asked.
        look: what the questions tell of the order (slots of the domain), or why it can't be done: then nothing more is
            asked and the task's action tells. For an order that can't be found another number is asked for. Without
            it the order isn't looked at.
        also: slots that are read where they are named, and never asked for.
        opens_with: a slot that the message which begins the task may hold as a whole.
        known_only: whether a guest can't have it done: nothing is asked then either.
    """

    form: str
    intents: frozenset[str]
    slots: tuple[str, ...]
    shop: Shop | None = None
    look: Look | None = None
    also: tuple[str, ...] = ()
    opens_with: str | None = None
    known_only: bool = False

    def name(self) -> str:
        """Return the name in the domain."""
        return f"validate_{self.form}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Return the slots read from the latest message, then which slot to ask for; None ends the form."""
        heard, wanted = Heard.by(self.form, tracker), self._wanted(tracker)
        # What an earlier task left behind was never said to this one: a yes least of all.
        changed: Details = {slot: None for slot in self.slots if slot not in NUMBERS} if heard.opens else {}
        read = {} if heard.returns else self._read(wanted, heard, dispatcher, tracker)
        changed |= read
        known = {slot: changed[slot] if slot in changed else _kept(slot, tracker) for slot in wanted}
        missing = next((slot for slot in wanted if known[slot] is None), None)
        if read or heard.opens or heard.returns:  # else it is another topic, which the form lets pass
            details, missing = await self._looked_at(known, missing, dispatcher, tracker)
            changed |= details
        new = [
            SlotSet(slot, value) for slot, value in changed.items() if value != tracker.slots.get(slot) or slot in read
        ]
        return [*new, SlotSet(REQUESTED_SLOT, missing)]

    def _wanted(self, tracker: Tracker) -> list[str]:
        who = asker(tracker)
        if self.known_only and who.customer is None:
            return []
        guest = who.customer is None and ORDER_NUMBER in self.slots
        return [
            each for slot in self.slots for each in ([slot, PHONE_LAST4] if guest and slot == ORDER_NUMBER else [slot])
        ]

    async def _looked_at(
        self, known: Details, missing: str | None, dispatcher: CollectingDispatcher, tracker: Tracker
    ) -> tuple[Details, str | None]:
        """Return what the questions tell of the order, and what to ask for now that it was looked at."""
        asks_more = missing is not None or self.slots == (ORDER_NUMBER,)
        if self.look is None or self.shop is None or missing in NUMBERS or not asks_more:
            return {}, missing
        found = await self.shop.order(asker(tracker, known.get(PHONE_LAST4)), known[ORDER_NUMBER])
        details = self.look(found, language(tracker)) if isinstance(found, Order) else found
        if isinstance(details, dict):
            return details, missing
        if isinstance(details, NotFound):
            dispatcher.utter_message(response="utter_order_not_found", order_number=known[ORDER_NUMBER])
            return {slot: None for slot in NUMBERS if slot in known}, ORDER_NUMBER
        return {}, None

    def _read(self, wanted: list[str], heard: Heard, dispatcher: CollectingDispatcher, tracker: Tracker) -> Details:
        """Return the slots that the latest message gives; says so where what was meant for one can't be it."""
        read: Details = {}
        for slot in [*wanted, *self.also]:
            value = self._given(slot, heard, tracker)
            if value is NOTHING:
                continue
            if value is None:
                dispatcher.utter_message(response=f"utter_invalid_{slot}")
            read[slot] = value
        if not read and heard.asked in wanted and heard.intent == "inform":
            read[heard.asked] = None  # data that nobody asked for are no other topic: the question is asked again
        others = any(value != _kept(slot, tracker) for slot, value in read.items() if slot != CONFIRMED)
        if others and CONFIRMED in wanted and (CONFIRMED in read or tracker.slots.get(CONFIRMED) is not None):
            read[CONFIRMED] = None  # "no, the other order": the yes or no was about the first one
        return read

    def _given(self, slot: str, heard: Heard, tracker: Tracker) -> Any:
        """Return the value that the latest message gives for a slot; None if it can't be read, NOTHING if none."""
        if slot == CONFIRMED:
            return self._yes_or_no(heard) if heard.asked == slot and not heard.to_offer else NOTHING
        reader, asked = READERS[slot], heard.asked == slot
        value = self._named(slot, reader, heard)
        if value is not None:
            return value
        if slot == self.opens_with and heard.intent in self.intents and not asked:
            tells = free_text.is_story(heard.text) and (heard.opens or tracker.slots.get(slot) is None)
            return reader.read(heard.text) if tells else NOTHING
        if not asked or not reader.tried(heard.text):
            return NOTHING
        if reader.is_free:
            return reader.read(heard.text) if self._is_free_answer(heard) else NOTHING
        value = reader.read(heard.text)
        answers = heard.intent in ANSWERS or (heard.intent in self.intents and value is not None)
        return value if answers else NOTHING

    def _yes_or_no(self, heard: Heard) -> Any:
        """Return whether it is to be done; what only sounds a little like a yes is none."""
        if heard.intent == "deny":
            return False
        yes = heard.intent == "affirm" or (heard.intent in self.intents and free_text.begins_with_yes(heard.text))
        return True if yes and heard.is_sure else NOTHING

    def _named(self, slot: str, reader: Reader, heard: Heard) -> Any:
        """Return what a message names for a slot, asked for or not; None for nothing."""
        own, answers = heard.intent in self.intents, heard.intent in ANSWERS or not heard.is_sure
        if slot in NUMBERS:
            # Of another topic it is said otherwise. A complaint may sound like one, and names the order it is about.
            about_it = own or heard.intent in ANSWERS or (slot in self.also and self._is_free_answer(heard))
            return reader.read(as_text(named(slot, heard.entities))) if about_it else None
        if reader.entities:
            if not own and not (heard.asked == slot and (answers or heard.is_mostly(reader.entities))):
                return None
            values = [each["value"] for each in heard.entities if each["entity"] in reader.entities]
            return reader.read(as_text([*values, heard.text]))
        return reader.named(heard.text) if own or (answers and heard.asked == CONFIRMED) else None

    def _is_free_answer(self, heard: Heard) -> bool:
        unsure = not heard.is_sure and heard.intent not in ANSWERS
        tells = heard.intent == "deny" and free_text.tells_what_is_not(heard.text)  # "it doesn't fit"
        return (heard.intent in FREE_ANSWERS | self.intents or unsure or tells) and not free_text.is_question(
            heard.text
        )


def _kept(slot: str, tracker: Tracker) -> Any:
    """Return what is known of a slot from before; of a number, only what can be read."""
    value = tracker.slots.get(slot)
    return READERS[slot].read(as_text(value)) if slot in NUMBERS else value


def task_forms(shop: Shop) -> list[TaskForm]:
    """Return every form that this server checks; a new one is added here and in the domain."""

    def form(name: str, intents: str, *slots: str, **more: Any) -> TaskForm:
        return TaskForm(f"{name}_form", frozenset(intents.split()), slots, shop, **more)

    return [
        form("track_order", "track_order", ORDER_NUMBER, look=looks.exists),
        form("cancel_order", "cancel_order", ORDER_NUMBER, CONFIRMED, look=looks.cancellation),
        form("change_order", "change_order", ORDER_NUMBER, "new_quantity", CONFIRMED, look=looks.items),
        form("change_address", "change_shipping_address", ORDER_NUMBER, "new_address", CONFIRMED, look=looks.address),
        form("refund", "get_refund", ORDER_NUMBER, "refund_reason", CONFIRMED, look=looks.refund),
        form("track_refund", "track_refund", ORDER_NUMBER, look=looks.exists),
        form("invoice", "get_invoice", ORDER_NUMBER, "invoice_title", CONFIRMED, look=looks.invoice),
        form("check_invoice", "check_invoice", ORDER_NUMBER, look=looks.exists),
        form("payment", "payment_issue", ORDER_NUMBER, look=looks.exists),
        form("add_address", "set_up_shipping_address", "new_address", known_only=True),
        form("change_name", "change_name", "account_name", known_only=True),
        form("delete_account", "delete_account", CONFIRMED, known_only=True),
        form("newsletter", "newsletter_subscription", "wants_newsletter", known_only=True),
        form("callback", "request_callback", CALLBACK_TIME, known_only=True),
        form("complaint", "complaint", "complaint_text", also=(ORDER_NUMBER,), opens_with="complaint_text"),
    ]
