"""Quantities that customers name. An impossible one is refused, not changed to a possible number."""

import pytest

from actions.quantity import names_number, quantity, target


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("两个", 2),
        ("要两个", 2),
        ("3", 3),
        ("十二个", 12),
        ("二十个", 20),
        ("二十五件", 25),
        ("一百个", 100),
        ("一百零五个", 105),
        ("改成１２件", 12),
        ("把2个改成3个", 3),
        ("3个，不是2个", 3),
        ("不要2个，要3个", 3),
        ("20260002改成3个", 3),
        ("订单20260002，两个就行", 2),
        ("两打", 24),
        ("x3", 3),
        ("make it three", 3),
        ("from 1 to 3", 3),
        ("not 2 but 3", 3),
        ("3 instead of 2", 3),
        ("twenty", 20),
        ("twenty-five please", 25),
        ("fourteen", 14),
        ("one", 1),
        ("just one, please", 1),
        ("two dozen", 24),
        ("2-3", 3),
    ],
)
def test_quantity_is_read_from_an_answer(text, wanted):
    assert quantity(text) == wanted


NONE = """-3 要-3个 -3个 负三个 1.5 一个半 半个 0 1000 2000 一万个
    many 一下 确认一下 第二个 不要两个 再加两个 多买两个 MC-301 3天后""".split()


@pytest.mark.parametrize("text", [*NONE, "that one", "the other one", "2 more", ""])
def test_text_without_a_quantity_is_refused(text):
    assert quantity(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("把20260002的数量改成3个", 3),
        ("订单20260002改成二十个", 20),
        ("change order 20260002 to 3 pieces", 3),
        ("please change the quantity of 20260002 from 1 to twelve", 12),
        ("不对，要三个", 3),
        ("no, make it 4", 4),
        ("我要改一下订单20260002", None),
        ("I want to change one thing in order 20260002", None),
        ("change 2 items in my order", None),
        ("好的，就那一个", None),
        ("yes, that one", None),
        ("1234", None),
    ],
)
def test_longer_message_names_the_new_quantity(text, wanted):
    assert target(text) == wanted


@pytest.mark.parametrize(("text", "has_number"), [("-3", True), ("再加两个", True), ("2000", True), ("红色的", False)])
def test_text_with_any_number_is_recognised(text, has_number):
    assert names_number(text) is has_number
