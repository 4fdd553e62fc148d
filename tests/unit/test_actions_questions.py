"""Replies about goods and prices, without a network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.formatting import money
from actions.questions import AskProduct
from actions.shop import Product


def product(sku: str, zh: str, en: str) -> Product:
    features = {"zh": ["主动降噪"], "en": ["active noise cancelling", "24 hours of battery"]}
    return Product(sku, {"zh": zh, "en": en}, "39.00", "CNY", 5, 12, features)


GOODS = {"耳机": [product("A", "耳机", "Headphones"), product("B", "真无线耳机", "Earbuds")],
         "台灯": [product("C", "台灯", "Desk lamp")], "lamp": [product("C", "台灯", "Desk lamp")]}  # fmt: skip


class FakeShop:
    async def products(self, _: str, query: str) -> list[Product]:
        return GOODS.get(query, [])


def messages(*named: str, text: str = "", **slots: object) -> list[dict]:
    message = {"text": text, "entities": [{"entity": "product", "value": name} for name in named]}
    dispatcher = CollectingDispatcher()
    tracker = Tracker("demo:x", slots, message, [], False, None, {}, "action_listen")
    asyncio.run(AskProduct(FakeShop()).run(dispatcher, tracker, {}))
    return dispatcher.messages


@pytest.mark.parametrize(
    ("named", "names"),
    [
        (("耳机",), ["耳机", "真无线耳机"]),
        (("耳机", "台灯"), ["耳机", "台灯"]),
        (("台灯", "lamp"), ["台灯"]),
        (("冰箱", "台灯"), ["台灯"]),
    ],
)
def test_reply_covers_all_named_products(named, names):
    assert [reply["product_name"] for reply in messages(*named)] == names


def test_question_without_a_product_is_about_the_last_one():
    assert [reply["product_name"] for reply in messages(text="防水吗", last_product="台灯")] == ["台灯"]
    assert [reply["response"] for reply in messages("冰箱", last_product="台灯")] == ["utter_product_not_found"]


def test_features_and_prices_follow_the_language():
    (reply,) = messages("台灯", language="en")
    assert (reply["features"], reply["price"]) == ("Active noise cancelling, 24 hours of battery", "39.00 CNY")
    assert messages("台灯")[0]["price"] == "39.00 元"
    assert money("39.00", "USD", "zh") == "39.00 USD"
