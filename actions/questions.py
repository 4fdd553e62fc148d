"""Answers questions from the shop's data: its rules and its goods. A reply states only facts that the data contain."""

import asyncio
from collections.abc import Callable
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.caller import asker, language
from actions.formatting import money
from actions.forms import LAST_ORDER_NUMBER, Events
from actions.numbers import as_text, order_number
from actions.readers import ORDER_NUMBER, named
from actions.shop import NotFound, Order, Policies, Product, Shop
from kefu.errors import ActionFailed

MOST_PRODUCTS = 3  # limits the products that are described in one answer
MAX_QUERY = 100  # limits the text that is sent to the shop as a search, in characters
LAST_PRODUCT = "last_product"  # the slot for the product that the conversation named last
Blanks = dict[str, Any]


def _ways(policies: Policies, lang: str) -> str:
    between = "；" if lang == "zh" else "; "
    return between.join(_way(way, lang) for way in policies.delivery)


def _way(way: dict[str, Any], lang: str) -> str:
    low, high = way["days"]["min"], way["days"]["max"]
    days = str(low) if low == high else f"{low}–{high}"
    price, name, regions = money(way["price"], way["currency"], lang), way["name"][lang], way["regions"][lang]
    if lang == "zh":
        return f"{name}（{regions}，{days}天，{price}）"
    return f"{name} ({regions}, {days} day{'' if days == '1' else 's'}, {price})"


def _list(words: list[dict[str, str]], lang: str) -> str:
    return ("、" if lang == "zh" else ", ").join(each[lang] for each in words)


# By intent: the values for the blanks of `utter_answer_INTENT`.
# The shop's e-mail address is in the responses themselves, because the worker masks the values that actions return.
ANSWERS: dict[str, Callable[[Policies, str], Blanks]] = {
    "check_payment_methods": lambda rules, lang: {"methods": _list(rules.payment_methods, lang)},
    "check_refund_policy": lambda rules, lang: {"days": rules.refund_days, "postage": rules.refund_postage[lang]},
    "check_cancellation_fee": lambda rules, _: {
        "hours": rules.cancellation["free_hours"],
        "percent": rules.cancellation["fee_percent"],
    },
    "delivery_options": lambda rules, lang: {"ways": _ways(rules, lang)},
    "delivery_period": lambda rules, lang: {"hours": rules.ships_within_hours, "ways": _ways(rules, lang)},
    "contact_customer_service": lambda rules, lang: {
        "phone": rules.service["phone"],
        "hours": rules.service["hours"][lang],
    },
    "create_account": lambda rules, lang: {"steps": rules.registration["steps"][lang]},
    "registration_problems": lambda rules, lang: {"steps": rules.registration["steps"][lang]},
    "place_order": lambda rules, lang: {"steps": rules.order_steps[lang]},
    "review": lambda rules, lang: {"where": rules.review["where"][lang]},
}


class AnswerQuestion(Action):
    """Answer the intent of the latest message from the shop's rules."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_answer_question"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable or ActionFailed, before anything is uttered."""
        intent, lang = (tracker.latest_message.get("intent") or {}).get("name"), language(tracker)
        if intent not in ANSWERS:
            raise ActionFailed(self.name(), "no answer for this intent")
        rules = await self._shop.policies(asker(tracker).tenant)
        if isinstance(rules, NotFound):
            raise ActionFailed(self.name(), "the shop has no rules")
        dispatcher.utter_message(response=f"utter_answer_{intent}", **ANSWERS[intent](rules, lang))
        return []


class CancellationFee(Action):
    """Tell the fee for cancelling the customer's order if an order is named, otherwise the shop's rule."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._rule = AnswerQuestion(shop)

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_cancellation_fee"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable or ActionFailed, before anything is uttered."""
        who, lang = asker(tracker), language(tracker)
        numbers = named(ORDER_NUMBER, tracker.latest_message.get("entities") or [])
        slots = tracker.slots
        number = order_number(as_text(numbers or slots.get(ORDER_NUMBER) or slots.get(LAST_ORDER_NUMBER)))
        order = await self._shop.order(who, number) if number and who.customer else None
        if not isinstance(order, Order):  # tell only the rule: the answer must not reveal whether an order exists
            return await self._rule.run(dispatcher, tracker, domain)
        if not order.cancellable:
            dispatcher.utter_message(response="utter_cancellation_fee_too_late", order_number=number)
        else:
            fee = money(order.cancellation_fee or "0.00", order.currency, lang)
            dispatcher.utter_message(response="utter_cancellation_fee_of_order", order_number=number, fee=fee)
        return []


class AskProduct(Action):
    """Tell price, stock and features of the goods that a message names, or of the last goods of the conversation."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the action's name in the domain."""
        return "action_ask_product"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter a response for each product, three at most. Raises ShopUnavailable, before anything is uttered."""
        products = await self._products(tracker)
        if not products:
            dispatcher.utter_message(response="utter_product_not_found")
        for product in products:
            stock = "utter_product" if product.stock > 0 else "utter_product_sold_out"
            dispatcher.utter_message(response=stock, **_of_product(product, language(tracker)))
        return [SlotSet(LAST_PRODUCT, products[0].name["zh"])] if products else []

    async def _products(self, tracker: Tracker) -> list[Product]:
        tenant, message, last = asker(tracker).tenant, tracker.latest_message, tracker.slots.get(LAST_PRODUCT)
        entities = message.get("entities") or []
        named = list(dict.fromkeys(as_text(each["value"]) for each in entities if each["entity"] == "product"))
        if not named:
            best = await self._shop.products(tenant, (message.get("text") or "")[:MAX_QUERY])
            return (best or (await self._shop.products(tenant, last) if last else []))[:1]
        answers = await asyncio.gather(*(self._shop.products(tenant, each) for each in named[:MOST_PRODUCTS]))
        # With several names each gives its best match; a single name gives all of its matches.
        fitting = answers[0] if len(named) == 1 else [answer[0] for answer in answers if answer]
        return list({product.sku: product for product in fitting}.values())[:MOST_PRODUCTS]


def _of_product(product: Product, lang: str) -> Blanks:
    features = ("，" if lang == "zh" else ", ").join(product.features[lang])
    return {
        "product_name": product.name[lang],
        "price": money(product.price, product.currency, lang),
        "months": product.warranty_months,
        "features": features[:1].upper() + features[1:],  # the response has them as a sentence of their own
    }
