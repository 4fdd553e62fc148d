"""NLU's functions of a text alone: its language, its numbers, folding and tokens."""

import pytest

from kefu.worker.nlu.language import detect
from kefu.worker.nlu.numbers import find_numbers
from kefu.worker.nlu.text import fold, tokens


@pytest.mark.parametrize(
    "text, language",
    [
        ("我的订单20260001到哪了", "zh"),
        ("where is my order 20260001?", "en"),
        ("帮我track一下order", "zh"),
        ("where is my 订单", "en"),
        ("hello 你好", "zh"),
        ("請問有人嗎", "zh"),
        ("I", "en"),
        ("it’s late", "en"),
    ],
)
def test_language_is_that_of_most_words(text: str, language: str) -> None:
    assert detect(text).value == language


@pytest.mark.parametrize(
    "text", ["", "20260001", "😀👍", "...", "ok", "OK!", "SF1234567890", "a@b.example", "１２３４"]
)
def test_text_without_telling_words_has_no_language(text: str) -> None:
    """The conversation then keeps its language."""
    assert detect(text) is None


def test_language_entity_is_on_the_first_telling_word() -> None:
    """The entity's value is the language; NLU needs a place in the text for it."""
    assert detect("20260001到哪了")[1:] == (8, 9)
    assert detect("ok, where is it")[1:] == (4, 9)


def test_language_entity_avoids_other_entities_if_possible() -> None:
    assert detect("蓝牙耳机多少钱", [(0, 4)])[1:] == (4, 5)
    assert detect("Friday at ten", [(0, 6), (10, 13)])[1:] == (7, 9)
    assert detect("下午三点", [(0, 4)])[1:] == (0, 1)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("我的订单20260001到哪了", [("order_number", "20260001")]),
        ("order20260001", [("order_number", "20260001")]),
        ("２０２６０００１", [("order_number", "20260001")]),
        ("订单 2026 0001，谢谢", [("order_number", "20260001")]),
        ("2026-0001", [("order_number", "20260001")]),
        ("2 0 2 6 0 0 0 1", [("order_number", "20260001")]),
        ("20260001 20260002", [("order_number", "20260001"), ("order_number", "20260002")]),
        ("订单20260001，手机尾号1234", [("order_number", "20260001"), ("phone_last4", "1234")]),
        ("my phone ends in 1234", [("phone_last4", "1234")]),
        ("手機末四碼是１２３４", [("phone_last4", "1234")]),
        ("电话*******1234", [("phone_last4", "1234")]),
        ("13800001234", [("phone_last4", "1234")]),
        ("+86 138 0000 1234", [("phone_last4", "1234")]),
        ("1234", [("number", "1234")]),
        ("123456789", [("number", "123456789")]),
        ("都3天了", []),
        ("SF1234567890", []),
    ],
)
def test_order_and_phone_numbers_are_read_in_any_spelling(text: str, expected: list) -> None:
    assert [(each.kind, each.value) for each in find_numbers(text)] == expected


def test_date_is_not_read_as_an_order_number() -> None:
    assert "order_number" not in {each.kind for each in find_numbers("2026-11-20 下的单")}


def test_full_width_number_keeps_its_position_in_the_text() -> None:
    number = find_numbers("订单２０２６０００１")[0]
    assert (number.start, number.end) == (2, 10)


def test_folded_text_keeps_its_length() -> None:
    """Folding replaces full-width and traditional characters one by one."""
    text = "請問訂單２０２６，ＯＫ？　😀"
    assert fold(text) == "请问订单2026,OK? 😀"
    assert len(fold(text)) == len(text)


def test_tokenizer_splits_chinese_into_characters() -> None:
    assert [token for token, _ in tokens("查order20260001，it's")] == ["查", "order", "20260001", "，", "it's"]
