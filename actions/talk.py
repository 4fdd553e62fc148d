"""Actions about the conversation itself: repeat, ask back when a message wasn't understood, hand over to a person."""

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import ActiveLoop, ConversationPaused, FollowupAction, SlotSet
from rasa_sdk.executor import CollectingDispatcher
from rasa_sdk.forms import REQUESTED_SLOT

from actions.caller import language
from actions.forms import CONFIRMED, Events
from actions.latest_message import is_person_offered, last_replies
from actions.readers import READERS

NOT_UNDERSTOOD = "nlu_fallback"
OFFER_AFTER = 2  # after this many messages in a row that were not understood, the assistant offers a person
HAND_OVER_AFTER = 3  # after this many it hands over without asking
DECLINED = "decline_person"  # intent of the button that declines the offer
MOST_MEANINGS = 2  # limits the intents that are offered as buttons when the assistant asks back
# Button titles of the intents that may be asked back. Add a new intent that begins a task here.
MEANINGS = {
    "track_order": ("查询订单", "Track an order"),
    "cancel_order": ("取消订单", "Cancel an order"),
    "change_order": ("修改订单", "Change an order"),
    "change_shipping_address": ("修改收货地址", "Change the delivery address"),
    "set_up_shipping_address": ("新增收货地址", "Add a delivery address"),
    "check_cancellation_fee": ("取消要不要收费", "Cancellation fee"),
    "check_invoice": ("查询发票", "Find an invoice"),
    "get_invoice": ("申请发票", "Get an invoice"),
    "check_payment_methods": ("支付方式", "Ways to pay"),
    "payment_issue": ("付款遇到问题", "A problem with a payment"),
    "check_refund_policy": ("退款规则", "Refund rules"),
    "get_refund": ("申请退款", "Get a refund"),
    "track_refund": ("退款进度", "Where is my refund"),
    "complaint": ("投诉", "Make a complaint"),
    "request_callback": ("给我回电", "Have us call you"),
    "contact_customer_service": ("客服联系方式", "How to reach you"),
    "contact_human_agent": ("转人工", "Talk to a person"),
    "create_account": ("注册账号", "Create an account"),
    "delete_account": ("注销账号", "Delete my account"),
    "edit_account": ("修改账号资料", "Change account details"),
    "switch_account": ("切换账号", "Switch accounts"),
    "recover_password": ("找回密码", "Reset my password"),
    "registration_problems": ("注册遇到问题", "A problem signing up"),
    "newsletter_subscription": ("订阅或退订", "Newsletter"),
    "delivery_options": ("配送方式", "Ways of delivery"),
    "delivery_period": ("多久送到", "How long delivery takes"),
    "place_order": ("怎么下单", "How to order"),
    "review": ("评价商品", "Review a product"),
}


class Repeat(Action):
    """Repeat the assistant's replies to the previous message."""

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_repeat"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter the replies to the message before this one; within a form, a short word before its question."""
        last = list(last_replies(tracker))
        if tracker.active_loop.get("name") or not last:
            dispatcher.utter_message(response="utter_again" if last else "utter_nothing_to_repeat")
            return []
        for reply in last:
            data, metadata = reply.get("data") or {}, reply.get("metadata") or {}
            # The response's name is kept: `is_person_offered` recognises a repeated offer by it.
            name = {"utter_action": metadata["utter_action"]} if "utter_action" in metadata else {}
            dispatcher.utter_message(
                text=reply.get("text"), buttons=data.get("buttons"), json_message=data.get("custom"), **name
            )
        return []


class Clarify(Action):
    """Ask back in steps: first the likeliest intents as buttons, then the offer of a person, then the hand-over."""

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_clarify"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response, or hand over. The slot `offered` records what was offered, so that a yes can be read."""
        missed = _missed_in_a_row(tracker)
        if missed >= HAND_OVER_AFTER:
            return [SlotSet("offered", None), FollowupAction("action_hand_over")]
        if missed == OFFER_AFTER:
            dispatcher.utter_message(response="utter_offer_person")
            return [SlotSet("offered", "person")]
        meanings = _likeliest(tracker)
        if not meanings:
            dispatcher.utter_message(response="utter_ask_rephrase")
        else:
            column = 1 if language(tracker) == "en" else 0
            buttons = [{"title": MEANINGS[name][column], "payload": f"/{name}"} for name in meanings]
            dispatcher.utter_message(response="utter_ask_meaning", buttons=buttons)
        return []


class AnswerOffer(Action):
    """Handle a yes or no after a person was offered. A yes counts only if the offer was in the last replies."""

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_answer_offer"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Leave the form and hand over, or acknowledge the answer; in both cases empty the slot `offered`."""
        nothing, intent = SlotSet("offered", None), (tracker.latest_message.get("intent") or {}).get("name")
        if intent == "affirm" and is_person_offered(tracker):
            left = [ActiveLoop(None), SlotSet(REQUESTED_SLOT, None)] if tracker.active_loop.get("name") else []
            return [nothing, *left, FollowupAction("action_hand_over")]
        if intent == "affirm":
            dispatcher.utter_message(response="utter_acknowledge")
        else:  # within a form, the form's question follows
            asks_more = tracker.active_loop.get("name") or intent == DECLINED
            dispatcher.utter_message(response="utter_offer_declined" if asks_more else "utter_noted_no")
        return [nothing]


class HandOver(Action):
    """Hand over to a person in `rasa shell`. A worker does it by itself, see kefu/worker/act/bot_actions.py."""

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_hand_over"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter the same response as a worker, and pause the conversation."""
        dispatcher.utter_message(response="utter_handoff_started")
        return [SlotSet("offered", None), ConversationPaused()]


def _likeliest(tracker: Tracker) -> list[str]:
    """Return the latest message's most probable intents that have a button, at most MOST_MEANINGS."""
    ranking = tracker.latest_message.get("intent_ranking") or []
    return [each["name"] for each in ranking if each["name"] in MEANINGS][:MOST_MEANINGS]


def _missed_in_a_row(tracker: Tracker) -> int:
    """Return how many messages in a row, up to this one, were not understood. The count restarts after a hand-over.

    A message that a form took as an answer (a name, a reason) counts as understood, whatever its intent.
    """
    missed = 0
    for event in reversed(tracker.events):
        if event["event"] == "resume" or (event["event"] == "slot" and _is_answer(event)):
            break
        if event["event"] == "user":
            if ((event.get("parse_data") or {}).get("intent") or {}).get("name") != NOT_UNDERSTOOD:
                break
            missed += 1
    return max(missed, 1)


def _is_answer(event: dict[str, Any]) -> bool:
    """Return whether a slot event fills a slot that a form asks for."""
    return event["name"] in ({CONFIRMED} | READERS.keys()) and event.get("value") is not None


def talk() -> list[Action]:
    """Return the actions about the conversation itself."""
    return [Repeat(), Clarify(), AnswerOffer(), HandOver()]
