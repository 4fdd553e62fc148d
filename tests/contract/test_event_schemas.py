"""Every event type has a JSON Schema, and encoded events satisfy it."""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import jsonschema
import orjson
import pytest

from kefu.codec import decode, decode_inbox, encode
from kefu.errors import PoisonMessage
from kefu.events import (
    TYPES,
    AgentSaid,
    AnswerGenerated,
    AuditEntry,
    DeadLetterHandled,
    HandoffEnded,
    HandoffStarted,
    HandoffTaken,
    ReminderDue,
    SessionIdled,
    TurnEvents,
    UserSaid,
)

SCHEMAS = Path(__file__).parents[2] / "kefu" / "schemas"
CAUSE = "0" * 32
OTHER = "1" * 32
SUMMARY = {
    "identified": True,
    "language": "zh",
    "channel": "rest",
    "asked": "转人工",
    "intent": "contact_human_agent",
    "task": "track_order_form",
    "slots": {"order_number": "20260001"},
    "turns": [{"from": "customer", "text": "转人工", "ts": 1}],
}
SAMPLES = [
    UserSaid("demo", "alice", "m1", text="where is my order 20260001?", identified=True, metadata={"page": "/"}),
    UserSaid("demo", "alice", "m2", payload="/track_order"),
    AnswerGenerated(
        "demo",
        "alice",
        "m1",
        cause=CAUSE,
        tracker_version=3,
        replies=[{"seq": 1, "message_id": "m1", "text": "hi", "buttons": [{"title": "a", "payload": "/b"}], "ts": 1}],
        intent="greet",
        confidence=0.9,
        actions=["utter_greet"],
        stages_ms={"nlu": 1.5},
        model_id="x",
    ),
    AnswerGenerated("demo", "alice", "m1", cause=CAUSE, tracker_version=3, status="failed", reason="internal_error"),
    TurnEvents("demo", "alice", CAUSE, tracker_version=3, events=[{"event": "user", "text": "hi"}]),
    DeadLetterHandled("demo", "alice", CAUSE, "replayed", "li.wei", attempt=1, message_id="replay-1"),
    DeadLetterHandled("", "", CAUSE, "dropped", "li.wei", note="a test"),
    AuditEntry("demo", "alice", "li.wei", "dead_letter.drop", CAUSE, {"note": "a test"}),
    ReminderDue("demo", "alice", "call back", due=1_700_000_000_000),
    SessionIdled("demo", "alice", due=1_700_000_000_000),
    AnswerGenerated("demo", "alice", OTHER, cause=OTHER, tracker_version=3, status="refused", reason="taken"),
    HandoffStarted("demo", "alice", CAUSE, by="action_hand_over", summary=SUMMARY),
    HandoffTaken("demo", "alice", OTHER, handoff=CAUSE, agent="li.wei"),
    AgentSaid("demo", "alice", OTHER, handoff=CAUSE, agent="li.wei", text="您好", name="小李"),
    HandoffEnded("demo", "alice", OTHER, handoff=CAUSE, agent="li.wei"),
]


def schema(name: str) -> dict:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def test_event_types_and_json_schemas_have_the_same_names():
    assert {path.stem for path in SCHEMAS.glob("*.json")} == set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_event_schema_and_dataclass_have_the_same_fields(name):
    document = schema(name)
    jsonschema.Draft202012Validator.check_schema(document)
    assert set(document["properties"]) == {f.name for f in fields(TYPES[name])}
    needed = {f.name for f in fields(TYPES[name]) if f.default is MISSING and f.default_factory is MISSING}
    assert needed <= set(document["required"])


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: f"{event.type}-{event.id[:4]}")
def test_encoded_event_fits_its_schema_and_decodes_to_an_equal(event):
    jsonschema.validate(orjson.loads(encode(event)), schema(event.type))
    assert decode(encode(event), type(event)) == event


def test_event_id_depends_on_user_and_message_id_only():
    """The parts are separated: user "b" with message "c-d" and user "b-c" with message "d" have different ids."""
    first, again = (UserSaid("demo", "alice", "m1", text=text) for text in ("a", "b"))
    assert first.id == again.id
    assert first.id != UserSaid("demo", "bob", "m1", text="a").id
    assert UserSaid("a", "b", "c-d", text="x").id != UserSaid("a", "b-c", "d", text="x").id


def test_decoder_ignores_unknown_fields():
    """A newer version of the event may have them."""
    newer = {**orjson.loads(encode(SAMPLES[0])), "mood": "fine"}
    assert decode(orjson.dumps(newer), UserSaid) == SAMPLES[0]


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"type": "Other"},
        {"tenant": "a:b"},
        {"user": None},
        {"message_id": "x" * 200},
        {"message_id": ["m1"]},
        {"text": None},
        {"text": 7},
        {"payload": "/also"},
        {"text": 0, "payload": "/x"},
        {"payload": 0},
        {"ts": "now"},
        {"metadata": []},
        {"identified": "yes"},
    ],
    ids=str,
)
def test_malformed_message_is_poison_and_not_shown_in_the_error(change):
    value = {**orjson.loads(encode(SAMPLES[0])), **change}
    with pytest.raises(PoisonMessage) as error:
        decode(orjson.dumps(value), UserSaid)
    assert "order" not in str(error.value)


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"[]", b'"text"', b"{", b"null"])
def test_record_that_is_no_json_object_is_poison(value):
    with pytest.raises(PoisonMessage):
        decode(value, UserSaid)


INBOX_KINDS = (UserSaid, ReminderDue, SessionIdled, HandoffStarted, HandoffTaken, AgentSaid, HandoffEnded)
INBOX = [event for event in SAMPLES if isinstance(event, INBOX_KINDS)]


@pytest.mark.parametrize("event", INBOX, ids=lambda event: f"{event.type}-{event.id[:4]}")
def test_inbox_decoder_accepts_every_type_of_the_inbox(event):
    assert decode_inbox(encode(event)) == event
    assert event.conversation == "demo:alice"


@pytest.mark.parametrize("event", [each for each in SAMPLES if each not in INBOX], ids=lambda event: event.type)
def test_inbox_decoder_refuses_events_of_other_topics(event):
    with pytest.raises(PoisonMessage):
        decode_inbox(encode(event))


@pytest.mark.parametrize("change", [{"due": "now"}, {"due": None}, {"name": 7}, {"user": "a:b"}, {"ts": None}], ids=str)
def test_malformed_timer_is_poison(change):
    value = {**orjson.loads(encode(ReminderDue("demo", "alice", "call back", due=1))), **change}
    with pytest.raises(PoisonMessage):
        decode_inbox(orjson.dumps(value))


@pytest.mark.parametrize(
    "change",
    [{"handoff": "a b"}, {"agent": None}, {"agent": "x" * 200}, {"text": ["hi"]}, {"name": 7}, {"id": 5}],
    ids=str,
)
def test_malformed_desk_event_is_poison(change):
    said = AgentSaid("demo", "alice", OTHER, handoff=CAUSE, agent="li.wei", text="hello")
    with pytest.raises(PoisonMessage):
        decode_inbox(orjson.dumps({**orjson.loads(encode(said)), **change}))


def test_timer_id_depends_on_the_due_time_not_on_the_send_time():
    """A timer that is sent again has the same id."""
    ids = {ReminderDue("demo", "alice", "call back", due=due, ts=ts).id for due in (1, 2) for ts in (5, 6)}
    assert len(ids) == 2
    assert SessionIdled("demo", "alice", due=1).id not in ids
    assert SessionIdled("demo", "alice", due=1).message_id == SessionIdled("demo", "alice", due=1, ts=9).id
