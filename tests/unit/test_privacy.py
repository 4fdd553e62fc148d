"""Personal data is masked in every form that people write it in, and other numbers stay."""

import re
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kefu import privacy
from kefu.privacy import mask, mask_all

SHAPES = (
    privacy._EMAIL.pattern,
    privacy._ID_CARD.pattern,
    privacy._CARD.pattern,
    *(phone.pattern for phone in privacy._PHONES),
)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("我的电话是13812345678", "我的电话是*******5678"),
        ("１３８１２３４５６７８", "*******5678"),
        ("138-1234-5678 or 138 1234 5678", "*******5678 or *******5678"),
        ("+8613812345678", "*********5678"),
        ("call +44 20 7946 0958 now", "call ********0958 now"),
        ("(415) 555-2671", "******2671"),
        ("010-62345678", "*******5678"),
        ("write to Li.Wei+shop@mail.example.com!", "write to [email]!"),
        ("邮箱abc@example.cn谢谢", "邮箱[email]谢谢"),
        ("card 4111 1111 1111 1111", "card ************1111"),
        ("6222021234567890128", "***************0128"),
        ("20260001 13800001234", "20260001 *******1234"),
        ("13800001234 20260001", "*******1234 20260001"),
        ("13800001234,13900005678", "*******1234,*******5678"),
        ("tel13800001234", "tel*******1234"),
        ("20260001 4111111111111111", "20260001 ************1111"),
        ("身份证11010519491231002X。", "身份证[id-card]。"),
        ("11010519491231002x", "[id-card]"),
    ],
)
def test_personal_data_becomes_a_mask(text, masked):
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260001",
        "我的订单20260001到哪了",
        "20260001 20260002 20260003",
        "SF1234567890123",
        "ZT700000007919",
        "2026-11-21 13:45:00",
        "1234567890123456",
        "110105194912310021",
        "a@b",
        "12.50 yuan",
        "v 1.2.3",
    ],
)
def test_text_without_personal_data_is_unchanged(text):
    assert mask(text) == text


def test_strings_are_masked_at_every_depth_of_a_json_value():
    assert mask_all({"a": ["13812345678", 5, None], "b": {"c": "x@example.com"}}) == {
        "a": ["*******5678", 5, None],
        "b": {"c": "[email]"},
    }


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(alphabet="0123456789０９٣ ()-+＋@＠.xX字a", max_size=40),
        st.from_regex("|".join(SHAPES)),
        st.from_regex("|".join(SHAPES)).map(
            lambda text: text.translate({ord(n): 0xFF10 + int(n) for n in "0123456789"})
        ),
    )
)
@example("(010) 62345678")
@example("1 (415) 555 2671")
def test_the_quick_check_misses_nothing_that_a_pattern_finds(text):
    """A quick check decides whether the patterns of personal data are searched at all."""
    with mock.patch.object(privacy, "_SUSPECT", re.compile("")):
        searched = mask(text)
    assert mask(text) == searched
