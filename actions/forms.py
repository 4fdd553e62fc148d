"""The forms of the tasks. In: a tracker. Out: the slots that its latest message fills, and the slot to ask for next.

Each task has one `TaskForm`; a new task is one line in `task_forms`. Forms and slots are named as in the domain.
"""

from dataclasses import dataclass
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher
from rasa_sdk.forms import REQUESTED_SLOT

from actions import eligibility, free_text
from actions.callbacks import CALLBACK_TIME
from actions.caller import asker, language
from actions.eligibility import Details, EligibilityCheck
from actions.latest_message import LatestMessage
from actions.numbers import as_text
from actions.readers import NUMBERS, ORDER_NUMBER, PHONE_LAST4, READERS, Reader, named
from actions.shop import NotFound, Order, Shop

CONFIRMED = "confirmed"
LAST_ORDER_NUMBER = "last_order_number"
# A message with one of these intents, or with none (`""`, None), can be the answer to the form's question.
ANSWERS = frozenset({"inform", "affirm", "deny", "nlu_fallback", "out_of_scope", "", None})
# The same for an answer in the customer's own words, such as a reason, in which NLU may find more intents.
FREE_ANSWERS = frozenset({"inform", "nlu_fallback", "out_of_scope", "chitchat", "complaint", "review", "", None})
NOTHING = object()  # stands for a message without a value for the slot; None stands for a value that can't be read
Events = list[dict[str, Any]]


@dataclass(frozen=True)
class TaskForm(Action):
    """The validation action of a form: fills its slots and chooses the slot to ask for next.

    It needs no domain in the call, which keeps the call small.

    Attributes:
        form: the form's name in the domain.
        intents: intents that begin the task. Within the form they bring data instead of another topic.
        slots: slots to fill, in the order of asking. A guest is also asked for the phone's last digits.
        shop: client of the shop, which knows the order.
        check: returns slots for the questions if the task can be done for the order, otherwise a refusal. After a
            refusal the form asks nothing more, and the task's action tells the reason. If the shop finds no order, the
            form asks for another number. None: the order isn't checked.
        also: slots that are read if the message names them, and never asked for.
        opens_with: a slot for the whole text of the message that begins the task.
        known_only: whether the task is for known customers only. The form then asks a guest nothing.
    """

    form: str
    intents: frozenset[str]
    slots: tuple[str, ...]
    shop: Shop | None = None
    check: EligibilityCheck | None = None
    also: tuple[str, ...] = ()
    opens_with: str | None = None
    known_only: bool = False

    def name(self) -> str:
        """Return the action's name in the domain."""
        return f"validate_{self.form}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Return the slots read from the latest message, then which slot to ask for; None ends the form."""
        message, wanted = LatestMessage.of(self.form, tracker), self._wanted(tracker)
        # A form that opens drops the slots of an earlier task, because a yes to that task must not count for this one.
        changed: Details = {slot: None for slot in self.slots if slot not in NUMBERS} if message.opens else {}
        read = {} if message.returns else self._read(wanted, message, dispatcher, tracker)
        changed |= read
        known = {slot: changed[slot] if slot in changed else _kept(slot, tracker) for slot in wanted}
        missing = next((slot for slot in wanted if known[slot] is None), None)
        if read or message.opens or message.returns:  # otherwise the message is about another topic
            details, missing = await self._check_order(known, missing, dispatcher, tracker)
            changed |= details
        new = [
            SlotSet(slot, value) for slot, value in changed.items() if value != tracker.slots.get(slot) or slot in read
        ]
        return [*new, SlotSet(REQUESTED_SLOT, missing)]

    def _wanted(self, tracker: Tracker) -> list[str]:
        """Return the slots that this sender has to fill, in the order of asking."""
        who = asker(tracker)
        if self.known_only and who.customer is None:
            return []
        guest = who.customer is None and ORDER_NUMBER in self.slots
        return [
            each for slot in self.slots for each in ([slot, PHONE_LAST4] if guest and slot == ORDER_NUMBER else [slot])
        ]

    async def _check_order(
        self, known: Details, missing: str | None, dispatcher: CollectingDispatcher, tracker: Tracker
    ) -> tuple[Details, str | None]:
        """Return the slots that the questions tell about the order, and the slot to ask for after the check."""
        asks_more = missing is not None or self.slots == (ORDER_NUMBER,)
        if self.check is None or self.shop is None or missing in NUMBERS or not asks_more:
            return {}, missing
        order = await self.shop.order(asker(tracker, known.get(PHONE_LAST4)), known[ORDER_NUMBER])
        details = self.check(order, language(tracker)) if isinstance(order, Order) else order
        if isinstance(details, dict):
            return details, missing
        if isinstance(details, NotFound):
            dispatcher.utter_message(response="utter_order_not_found", order_number=known[ORDER_NUMBER])
            return {slot: None for slot in NUMBERS if slot in known}, ORDER_NUMBER
        return {}, None

    def _read(
        self, wanted: list[str], message: LatestMessage, dispatcher: CollectingDispatcher, tracker: Tracker
    ) -> Details:
        """Return the slots that the latest message fills; utter `utter_invalid_SLOT` for a value that can't be read."""
        read: Details = {}
        for slot in [*wanted, *self.also]:
            value = self._given(slot, message, tracker)
            if value is NOTHING:
                continue
            if value is None:
                dispatcher.utter_message(response=f"utter_invalid_{slot}")
            read[slot] = value
        if not read and message.asked in wanted and message.intent == "inform":
            read[message.asked] = None  # data for no slot is not another topic: the form asks its question again
        others = any(value != _kept(slot, tracker) for slot, value in read.items() if slot != CONFIRMED)
        if others and CONFIRMED in wanted and (CONFIRMED in read or tracker.slots.get(CONFIRMED) is not None):
            # "no, the other order": the yes or no was about the order before this correction, so ask again.
            read[CONFIRMED] = None
        return read

    def _given(self, slot: str, message: LatestMessage, tracker: Tracker) -> Any:
        """Return the value that the latest message gives for a slot: None if unreadable, NOTHING without a value."""
        if slot == CONFIRMED:
            return self._yes_or_no(message) if message.asked == slot and not message.to_offer else NOTHING
        reader, asked = READERS[slot], message.asked == slot
        value = self._named(slot, reader, message)
        if value is not None:
            return value
        if slot == self.opens_with and message.intent in self.intents and not asked:
            tells = free_text.is_story(message.text) and (message.opens or tracker.slots.get(slot) is None)
            return reader.read(message.text) if tells else NOTHING
        if not asked or not reader.tried(message.text):
            return NOTHING
        if reader.is_free:
            return reader.read(message.text) if self._is_free_answer(message) else NOTHING
        value = reader.read(message.text)
        answers = message.intent in ANSWERS or (message.intent in self.intents and value is not None)
        return value if answers else NOTHING

    def _yes_or_no(self, message: LatestMessage) -> Any:
        """Return True for a yes of which NLU is sure, False for a no, otherwise NOTHING."""
        if message.intent == "deny":
            return False
        yes = message.intent == "affirm" or (message.intent in self.intents and free_text.begins_with_yes(message.text))
        return True if yes and message.is_sure else NOTHING

    def _named(self, slot: str, reader: Reader, message: LatestMessage) -> Any:
        """Return the value that a message names for a slot, whether it was asked for or not; None without one."""
        own, answers = message.intent in self.intents, message.intent in ANSWERS or not message.is_sure
        if slot in NUMBERS:
            # A number in a message about another topic is not for this form. A complaint is the exception: NLU may take
            # it for another topic, and the order number in it belongs to the complaint.
            about_it = own or message.intent in ANSWERS or (slot in self.also and self._is_free_answer(message))
            return reader.read(as_text(named(slot, message.entities))) if about_it else None
        if reader.entities:
            if not own and not (message.asked == slot and (answers or message.is_mostly(reader.entities))):
                return None
            values = [each["value"] for each in message.entities if each["entity"] in reader.entities]
            return reader.read(as_text([*values, message.text]))
        return reader.named(message.text) if own or (answers and message.asked == CONFIRMED) else None

    def _is_free_answer(self, message: LatestMessage) -> bool:
        """Return whether the message may be an answer in the customer's own words, and is no question."""
        unsure = not message.is_sure and message.intent not in ANSWERS
        tells = message.intent == "deny" and free_text.tells_what_is_not(message.text)  # such as "it doesn't fit"
        return (message.intent in FREE_ANSWERS | self.intents or unsure or tells) and not free_text.is_question(
            message.text
        )


def _kept(slot: str, tracker: Tracker) -> Any:
    """Return the value that a slot had before the latest message; None for a number that can't be read."""
    value = tracker.slots.get(slot)
    return READERS[slot].read(as_text(value)) if slot in NUMBERS else value


def task_forms(shop: Shop) -> list[TaskForm]:
    """Return the validation action of every form. Add a new form here and in the domain."""

    def form(name: str, intents: str, *slots: str, **more: Any) -> TaskForm:
        return TaskForm(f"{name}_form", frozenset(intents.split()), slots, shop, **more)

    return [
        form("track_order", "track_order", ORDER_NUMBER, check=eligibility.exists),
        form("cancel_order", "cancel_order", ORDER_NUMBER, CONFIRMED, check=eligibility.cancellation),
        form("change_order", "change_order", ORDER_NUMBER, "new_quantity", CONFIRMED, check=eligibility.items),
        form(
            "change_address",
            "change_shipping_address",
            ORDER_NUMBER,
            "new_address",
            CONFIRMED,
            check=eligibility.address,
        ),
        form("refund", "get_refund", ORDER_NUMBER, "refund_reason", CONFIRMED, check=eligibility.refund),
        form("track_refund", "track_refund", ORDER_NUMBER, check=eligibility.exists),
        form("invoice", "get_invoice", ORDER_NUMBER, "invoice_title", CONFIRMED, check=eligibility.invoice),
        form("check_invoice", "check_invoice", ORDER_NUMBER, check=eligibility.exists),
        form("payment", "payment_issue", ORDER_NUMBER, check=eligibility.exists),
        form("add_address", "set_up_shipping_address", "new_address", known_only=True),
        form("change_name", "change_name", "account_name", known_only=True),
        form("delete_account", "delete_account", CONFIRMED, known_only=True),
        form("newsletter", "newsletter_subscription", "wants_newsletter", known_only=True),
        form("callback", "request_callback", CALLBACK_TIME, known_only=True),
        form("complaint", "complaint", "complaint_text", also=(ORDER_NUMBER,), opens_with="complaint_text"),
    ]
