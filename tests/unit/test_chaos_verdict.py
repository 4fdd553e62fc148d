"""The verdict finds every kind of breach, and none in a run that kept all promises."""

from dataclasses import replace

import orjson
import pytest

from actions.idempotency import scoped
from kefu.codec import encode
from kefu.events import AnswerGenerated, TurnEvents
from ops.chaos import plan
from ops.chaos.evidence import Evidence, Kept
from ops.chaos.faults import Trouble
from ops.chaos.load import Sent, Talk
from ops.chaos.verdict import judge

KEY = "demo:alice"
NOW = 1_790_000_000_000


def evidence(stock=False):
    """Return the evidence of three messages, the second about an order, with all promises kept."""
    state = Evidence(
        [Talk("alice", "token", [Sent("m1", "hi"), Sent("m2", "where?", "20260001"), Sent("m3", "bye")])], []
    )
    kept = Kept(0, 0, [], [], {})
    for number in (1, 2, 3):
        store(state, kept, number, ["utter_action_failed"] if stock and number == 2 else ["utter_x"])
    state.kept[KEY] = kept
    state.replies[KEY] = [reply for _, reply in kept.replies]
    state.inquiries = [] if stock else [scoped("m2:action_track_order:0", KEY)]
    state.talks[0].streamed = [1, 2, 3]
    return state


def store(state, kept, number, actions, status="answered"):
    reply = {"seq": number, "message_id": f"m{number}", "text": "order 20260001", "ts": NOW}
    answer = AnswerGenerated(
        "demo", "alice", f"m{number}", f"c{number}", number, status, None, [reply], ts=NOW, actions=actions
    )
    turn = TurnEvents("demo", "alice", f"c{number}", number, [{"event": "user", "text": f"t{number}"}])
    kept.version, kept.seq = number, number
    kept.turns.append({"v": number, "events": turn.events})
    kept.replies.append((number, reply))
    kept.markers[f"m{number}"] = encode(answer)
    state.answers.setdefault(KEY, []).append((answer.id, encode(answer)))
    state.events.setdefault(KEY, []).append((turn.id, encode(turn)))
    state.statuses[f"m{number}"] = status


def kinds(state):
    return {breach.kind for breach in judge(state).breaches}


def changed(state, number, **fields):
    """Change an answer in Redis and in `answer.generated`."""
    marker = orjson.dumps({**orjson.loads(state.kept[KEY].markers[f"m{number}"]), **fields})
    state.kept[KEY].markers[f"m{number}"] = marker
    state.answers[KEY][number - 1] = (state.answers[KEY][number - 1][0], marker)


def test_run_that_kept_all_promises_gives_no_breach():
    """Records published twice under the same ids are no breach."""
    state = evidence()
    state.answers[KEY] += state.answers[KEY]  # published again under the same ids
    state.events[KEY] += state.events[KEY]
    verdict = judge(state)
    assert verdict.breaches == []
    assert verdict.counts["accepted"] == verdict.counts["answered"] == 3
    assert verdict.counts["published again"] == 3


def lost(state):
    del state.kept[KEY].markers["m2"]


def not_told(state):
    state.statuses["m2"] = "HTTP 404"


def failed_without_letter(state):
    changed(state, 2, status="failed")
    state.statuses["m2"] = "failed"


def letter_of_an_answered_message(state):
    state.letters[KEY] = ["m1"]


def answered_in_another_order(state):
    changed(state, 1, tracker_version=2)
    changed(state, 2, tracker_version=1)


def answered_under_two_ids(state):
    state.answers[KEY].append(("another", state.answers[KEY][0][1]))


def another_answer_under_the_same_id(state):
    answer_id, value = state.answers[KEY][0]
    state.answers[KEY].append((answer_id, value.replace(b"utter_x", b"utter_y")))


def never_published(state):
    del state.answers[KEY][1]


def a_gap(state):
    state.kept[KEY].replies.pop(1)


def a_reply_twice(state):
    state.kept[KEY].replies.append((4, state.kept[KEY].replies[-1][1]))
    state.kept[KEY].seq = 4


def api_shows_less(state):
    state.replies[KEY].pop()


def events_not_published(state):
    state.events[KEY].pop()


def another_turn_under_the_same_id(state):
    turn_id, value = state.events[KEY][0]
    state.events[KEY].append((turn_id, value.replace(b"t1", b"t9")))


def a_turn_under_two_ids(state):
    state.events[KEY].append(("another", state.events[KEY][0][1]))


def no_side_effect(state):
    state.inquiries.clear()


def side_effect_twice(state):
    state.inquiries *= 2


def side_effect_of_a_second_run(state):
    state.inquiries.append(scoped("m2:action_track_order:1", KEY))


def stream_with_a_gap(state):
    state.talks[0].streamed = [1, 3]


def stream_that_ended_early(state):
    state.talks[0].streamed = [1, 2]


def stream_that_told_a_reply_that_was_lost(state):
    state.talks[0].replies = {2: {"seq": 2, "message_id": "m2", "text": "other"}}


def lagging(state):
    state.lag = 3


def silent(state):
    changed(state, 1, replies=[])


def another_questions_answer(state):
    changed(state, 2, replies=[{"text": "good bye"}])


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        (lost, "accepted and lost"),
        (not_told, "sender not told"),
        (failed_without_letter, "dead letter and outcome differ"),
        (letter_of_an_answered_message, "dead letter and outcome differ"),
        (answered_in_another_order, "out of order"),
        (answered_under_two_ids, "answered twice"),
        (another_answer_under_the_same_id, "one id, two answers"),
        (never_published, "answer.generated differs from Redis"),
        (a_gap, "sequence has gaps"),
        (a_reply_twice, "replies are not those of the turns"),
        (api_shows_less, "the API shows other replies"),
        (events_not_published, "dialogue.events differs from Redis"),
        (another_turn_under_the_same_id, "one id, two turns"),
        (a_turn_under_two_ids, "one version, two turns"),
        (no_side_effect, "side effect not once"),
        (side_effect_twice, "side effect not once"),
        (side_effect_of_a_second_run, "side effect of nothing that was asked"),
        (stream_with_a_gap, "stream has gaps or repeats"),
        (stream_that_ended_early, "stream did not bring all"),
        (stream_that_told_a_reply_that_was_lost, "stream told another reply"),
        (lagging, "offsets were not committed"),
        (silent, "silent"),
        (another_questions_answer, "answer of another question"),
    ],
)
def test_verdict_finds_each_kind_of_breach(do, kind):
    """Each case breaks the evidence of one conversation. The breach names the conversation."""
    state = evidence()
    do(state)
    assert kind in kinds(state)
    assert all(breach.conversation == KEY or not breach.conversation for breach in judge(state).breaches)


def test_stock_answer_is_a_breach_without_an_action_server_fault():
    """`utter_action_failed` is right only shortly after the action server was killed or cut off."""
    assert kinds(evidence(stock=True)) == {"stock answer without cause"}
    trouble = Trouble(plan.ACTIONS_KILL, "actions", NOW - 3000, NOW - 1000)
    for excuse, expected in (
        (trouble, set()),
        (replace(trouble, until_ms=None), set()),
        (replace(trouble, kind=plan.GATEWAY), {"stock answer without cause"}),
        (replace(trouble, since_ms=NOW - 60_000, until_ms=NOW - 50_000), {"stock answer without cause"}),
        (replace(trouble, since_ms=NOW + 1, until_ms=NOW + 2), {"stock answer without cause"}),
    ):
        state = evidence(stock=True)
        state.troubles = [excuse]
        assert kinds(state) == expected
