"""The memory of live conversations: bounded by conversations and turns; the most recently used stay."""

from rasa.shared.core.events import ActionExecuted

from kefu import metrics
from kefu.worker.conversation.stored import TurnWrite
from kefu.worker.engine.tracker import LiveTracker
from kefu.worker.turns.live import LiveConversation, LiveConversations


def conversation(name, turns, partition=0):
    live = LiveConversation(name, tracker=None, partition=partition)
    live.turn_sizes.extend([5] * turns)
    return live


def held(memory, *names):
    """Take these conversations out of memory; return the names of those that were there."""
    return [name for name in names if memory.check_out(name) is not None]


def test_least_recently_used_conversation_leaves_memory_first():
    memory = LiveConversations(limit=2, turns_limit=100)
    for name in ("a", "b"):
        memory.put_back(conversation(name, 1))
    memory.put_back(memory.check_out("a"))
    memory.put_back(conversation("c", 1))
    assert held(memory, "a", "b", "c") == ["a", "c"]


def test_long_conversation_in_memory_replaces_many_short_ones():
    memory = LiveConversations(limit=100, turns_limit=10)
    for n in range(10):
        memory.put_back(conversation(f"short-{n}", 1))
    memory.put_back(conversation("long", 8))
    assert held(memory, "long", *(f"short-{n}" for n in range(10))) == ["long", "short-8", "short-9"]


def test_turns_in_memory_are_counted_as_conversations_come_and_go():
    memory = LiveConversations(limit=100, turns_limit=10)
    for _ in range(3):
        growing = memory.check_out("a") or conversation("a", 3, partition=1)
        growing.turn_sizes.append(5)
        memory.put_back(growing)
    assert metrics.LIVE_TURNS._value.get() == 6
    memory.put_back(conversation("b", 4, partition=2))
    memory.drop({1})
    assert metrics.LIVE_TURNS._value.get() == 4
    memory.put_back(conversation("c", 6))
    assert held(memory, "a", "b", "c") == ["b", "c"]


def test_conversation_above_the_limit_of_turns_is_not_kept():
    memory = LiveConversations(limit=100, turns_limit=10)
    memory.put_back(conversation("a", 11))
    assert held(memory, "a") == []
    assert metrics.LIVE_TURNS._value.get() == 0


def test_kept_write_equals_the_sent_one():
    """The worker keeps a write for mending. Its JSON is copied, because the buffers are larger than their content."""
    event = {"event": "user", "text": "x" * 700}
    write = TurnWrite("m", 3, 7, [event], b"marker", [{"seq": 7, "text": "y"}])
    kept = write.kept()
    assert (kept.message_id, kept.version, kept.arguments) == ("m", 3, write.arguments)
    copied = [part for part, sent in zip(kept.arguments, write.arguments, strict=True) if part is not sent]
    assert {len(part) for part in copied} == {len(write.arguments[1]), len(write.marker), len(write.arguments[-1])}


def test_events_of_a_model_share_their_metadata(agent):
    """Such events refer to one metadata object, which saves memory."""
    tracker = LiveTracker("demo:alice", agent.processor.view)
    tracker.model_id, tracker.assistant_id = "m", "a"
    for event in (
        ActionExecuted("action_listen"),
        ActionExecuted("utter_greet"),
        ActionExecuted("x", metadata={"k": 1}),
    ):
        tracker.update(event)
    first, second, third = tracker.events
    assert first.metadata is second.metadata == {"model_id": "m", "assistant_id": "a"}
    assert third.metadata == {"k": 1, "model_id": "m", "assistant_id": "a"}
