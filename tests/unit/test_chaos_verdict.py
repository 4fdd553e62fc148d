"""The verdict finds each way in which a promise can be broken, and nothing in a run that kept them all."""

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
    """Three messages, the second asks for an order; all promises kept."""
    found = Evidence(
        [Talk("alice", "token", [Sent("m1", "hi"), Sent("m2", "where?", "20260001"), Sent("m3", "bye")])], []
    )
    kept = Kept(0, 0, [], [], {})
    for number in (1, 2, 3):
        store(found, kept, number, ["utter_action_failed"] if stock and number == 2 else ["utter_x"])
    found.kept[KEY] = kept
    found.replies[KEY] = [reply for _, reply in kept.replies]
    found.inquiries = [] if stock else [scoped("m2:action_track_order:0", KEY)]
    found.talks[0].heard = [1, 2, 3]
    return found


def store(found, kept, number, actions, status="answered"):
    reply = {"seq": number, "message_id": f"m{number}", "text": "order 20260001", "ts": NOW}
    answer = AnswerGenerated(
        "demo", "alice", f"m{number}", f"c{number}", number, status, None, [reply], ts=NOW, actions=actions
    )
    turn = TurnEvents("demo", "alice", f"c{number}", number, [{"event": "user", "text": f"t{number}"}])
    kept.version, kept.seq = number, number
    kept.turns.append({"v": number, "events": turn.events})
    kept.replies.append((number, reply))
    kept.markers[f"m{number}"] = encode(answer)
    found.answers.setdefault(KEY, []).append((answer.id, encode(answer)))
    found.events.setdefault(KEY, []).append((turn.id, encode(turn)))
    found.told[f"m{number}"] = status


def kinds(found):
    return {breach.kind for breach in judge(found).breaches}


def changed(found, number, **fields):
    """Change an answer wherever it is."""
    marker = orjson.dumps({**orjson.loads(found.kept[KEY].markers[f"m{number}"]), **fields})
    found.kept[KEY].markers[f"m{number}"] = marker
    found.answers[KEY][number - 1] = (found.answers[KEY][number - 1][0], marker)


def test_nothing_is_found_where_all_promises_were_kept():
    found = evidence()
    found.answers[KEY] += found.answers[KEY]  # published again under the same ids
    found.events[KEY] += found.events[KEY]
    verdict = judge(found)
    assert verdict.breaches == []
    assert verdict.counts["accepted"] == verdict.counts["answered"] == 3
    assert verdict.counts["published again"] == 3


def lost(found):
    del found.kept[KEY].markers["m2"]


def not_told(found):
    found.told["m2"] = "HTTP 404"


def failed_without_letter(found):
    changed(found, 2, status="failed")
    found.told["m2"] = "failed"


def letter_of_an_answered_message(found):
    found.letters[KEY] = ["m1"]


def answered_in_another_order(found):
    changed(found, 1, tracker_version=2)
    changed(found, 2, tracker_version=1)


def answered_under_two_ids(found):
    found.answers[KEY].append(("another", found.answers[KEY][0][1]))


def another_answer_under_the_same_id(found):
    answer_id, value = found.answers[KEY][0]
    found.answers[KEY].append((answer_id, value.replace(b"utter_x", b"utter_y")))


def never_published(found):
    del found.answers[KEY][1]


def a_gap(found):
    found.kept[KEY].replies.pop(1)


def a_reply_twice(found):
    found.kept[KEY].replies.append((4, found.kept[KEY].replies[-1][1]))
    found.kept[KEY].seq = 4


def api_shows_less(found):
    found.replies[KEY].pop()


def events_not_published(found):
    found.events[KEY].pop()


def another_turn_under_the_same_id(found):
    turn_id, value = found.events[KEY][0]
    found.events[KEY].append((turn_id, value.replace(b"t1", b"t9")))


def a_turn_under_two_ids(found):
    found.events[KEY].append(("another", found.events[KEY][0][1]))


def no_side_effect(found):
    found.inquiries.clear()


def side_effect_twice(found):
    found.inquiries *= 2


def side_effect_of_a_second_run(found):
    found.inquiries.append(scoped("m2:action_track_order:1", KEY))


def stream_with_a_gap(found):
    found.talks[0].heard = [1, 3]


def stream_that_ended_early(found):
    found.talks[0].heard = [1, 2]


def stream_that_told_a_reply_that_was_lost(found):
    found.talks[0].replies = {2: {"seq": 2, "message_id": "m2", "text": "other"}}


def lagging(found):
    found.lag = 3


def silent(found):
    changed(found, 1, replies=[])


def another_questions_answer(found):
    changed(found, 2, replies=[{"text": "good bye"}])


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
def test_each_breach_is_named_with_its_conversation(do, kind):
    found = evidence()
    do(found)
    assert kind in kinds(found)
    assert all(breach.conversation == KEY or not breach.conversation for breach in judge(found).breaches)


def test_a_stock_answer_needs_trouble_with_the_action_server_about_its_time():
    assert kinds(evidence(stock=True)) == {"stock answer without cause"}
    trouble = Trouble(plan.ACTIONS_KILL, "actions", NOW - 3000, NOW - 1000)
    for excuse, expected in (
        (trouble, set()),
        (replace(trouble, until_ms=None), set()),
        (replace(trouble, kind=plan.GATEWAY), {"stock answer without cause"}),
        (replace(trouble, since_ms=NOW - 60_000, until_ms=NOW - 50_000), {"stock answer without cause"}),
        (replace(trouble, since_ms=NOW + 1, until_ms=NOW + 2), {"stock answer without cause"}),
    ):
        found = evidence(stock=True)
        found.troubles = [excuse]
        assert kinds(found) == expected
