"""Values in the customer's own words: the words around the value are removed, and evasive answers are refused."""

import pytest

from actions import free_text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("抬头写杭州某某科技有限公司", "杭州某某科技有限公司"),
        ("发票抬头是：李晓明", "李晓明"),
        ("公司名称：蓝山贸易有限公司", "蓝山贸易有限公司"),
        ("就开李晓明", "李晓明"),
        ("the name is Bob Murphy", "Bob Murphy"),
        ("Title should be: Blue Hill Ltd.", "Blue Hill Ltd"),
        ("Blue Hill Ltd", "Blue Hill Ltd"),
        ("开元酒店有限公司", "开元酒店有限公司"),
        ("个人", "个人"),
        ("公司", None),
        ("我不知道", None),
        ("随便写一个吧", None),
        ("你们看着办", None),
        ("I don't know", None),
        ("whatever", None),
        ("抬头写随便", None),
        ("公", None),
        ("", None),
        ("a" * 200, None),
    ],
)
def test_invoice_title_is_read_from_an_answer(text, title):
    assert free_text.title(text) == title


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("改到杭州市西湖区文三路123号2单元501室", "杭州市西湖区文三路123号2单元501室"),
        ("地址是上海市浦东新区梧桐路88号3楼", "上海市浦东新区梧桐路88号3楼"),
        ("麻烦帮我送到 上海市浦东新区梧桐路88号", "上海市浦东新区梧桐路88号"),
        ("my new address is 12 Larch Street, London", "12 Larch Street, London"),
        ("to 12 Larch Street,\n London", "12 Larch Street, London"),
        ("Torquay Road 5, Plymouth", "Torquay Road 5, Plymouth"),
        ("送到", None),
        ("somewhere nice please", None),
    ],
)
def test_address_is_read_from_an_answer(text, address):
    assert free_text.address(text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("把20260007的地址改成杭州市西湖区文三路123号2单元501室", "杭州市西湖区文三路123号2单元501室"),
        ("帮我改到杭州市西湖区文三路123号，订单号20260007", "杭州市西湖区文三路123号"),
        ("不对，是上海市浦东新区梧桐路88号3楼", "上海市浦东新区梧桐路88号3楼"),
        ("can you change the address of 20260007 to 12 Larch Street, London please?", "12 Larch Street, London"),
        ("no, it's 12 Larch Street, London", "12 Larch Street, London"),
        ("我要改收货地址，订单20260007", None),
        ("地址要改到公司去，我的订单号是20260007", None),
        ("I want to change the address of my order 20260007 to a new one", None),
        ("no, I don't want that street", None),
        ("不对，地址写错了", None),
    ],
)
def test_address_is_read_from_a_longer_message(text, address):
    assert free_text.named_address(text) == address


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("不对，抬头是杭州某某科技有限公司", "杭州某某科技有限公司"),
        ("给20260003开发票，抬头写李晓明", "李晓明"),
        ("no, the name should be Blue Hill Ltd", "Blue Hill Ltd"),
        ("an invoice in the name of Ann Lee for order 20260003", "Ann Lee"),
        ("不对，应该是李晓明", "李晓明"),
        ("帮我开一张发票", None),
        ("no", None),
        ("抬头是什么意思", None),
    ],
)
def test_invoice_title_is_read_from_a_longer_message(text, title):
    assert free_text.named_title(text) == title


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("20260003我要退款，因为尺寸不合适", "尺寸不合适"),
        ("refund 20260003 because it doesn't fit", "it doesn't fit"),
        ("我要退款", None),
        ("no, I changed my mind", None),
    ],
)
def test_refund_reason_is_read_from_a_longer_message(text, reason):
    assert free_text.named_reason(text) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("理由是尺寸不合适", "尺寸不合适"),
        ("因为收到的时候已经坏了", "收到的时候已经坏了"),
        ("reason: it doesn't fit", "it doesn't fit"),
        ("because of the colour", "because of the colour"),
        ("bad", None),
        ("不好", None),
    ],
)
def test_refund_reason_is_read_from_an_answer(text, reason):
    assert free_text.reason(text) == reason


@pytest.mark.parametrize("text", ["I want to make a complaint", "I'd like to file a formal complaint against you",
                                  "我要投诉", "我想投诉一下你们的服务", "我要投诉你们的快递员"])  # fmt: skip
def test_announced_complaint_has_no_story_yet(text):
    """The customer says that there is a complaint, but not what happened."""
    assert not free_text.is_story(text)


@pytest.mark.parametrize("text", ["I want to complain: your courier threw my parcel over the fence",
                                  "你们快递员态度太差了，把我的包裹直接扔门口，都摔坏了"])  # fmt: skip
def test_complaint_that_tells_what_happened_is_a_story(text):
    assert free_text.is_story(text)


@pytest.mark.parametrize(
    ("text", "name"), [("改成小雨", "小雨"), ("call me Ann", "Ann"), ("123456", None), ("x" * 41, None)]
)
def test_account_name_is_read_from_an_answer(text, name):
    assert free_text.name(text) == name


@pytest.mark.parametrize(
    "text", ["yes, cancel 20260007", "Yes please cancel it", "对，取消20260002", "确认取消", "好的，取消吧"]
)
def test_yes_at_the_beginning_of_a_message_counts(text):
    assert free_text.begins_with_yes(text)


@pytest.mark.parametrize("text", ["cancel 20260007", "yesterday's order", "是不是可以取消", "确认取消吗",
                                  "yes, but wait", "ok, but not yet", "对了，取消要多久", "取消"])  # fmt: skip
def test_message_without_a_yes_or_with_a_retraction_is_no_yes(text):
    assert not free_text.begins_with_yes(text)


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("it doesn't fit", True),
        ("the colour is not what I ordered", True),
        ("尺寸跟图片对不上", True),
        ("no, I don't want to", False),
        ("I don't want it any more", False),
        ("我不想退款了", False),
        ("没有了谢谢", False),
    ],
)
def test_negative_statement_is_told_apart_from_a_no(text, tells):
    assert free_text.tells_what_is_not(text) is tells
