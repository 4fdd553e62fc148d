"""Derived ids never change: published records are recognized by them."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from kefu.events import UserSaid, derived_id

NAMESPACE = uuid.UUID("5b0f6ad4-0d5b-4f8e-9d0a-6b6566752e31")


@given(st.lists(st.one_of(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers())))
def test_derived_id_equals_the_uuid5_of_its_parts(parts):
    assert derived_id(*parts) == uuid.uuid5(NAMESPACE, "\x1f".join(map(str, parts))).hex


def test_derived_id_of_a_message_never_changes():
    assert UserSaid("demo", "alice", "m1", text="hello").id == "5cdddc3918e154f39af1e4b4ff3dbde2"
