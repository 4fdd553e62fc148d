"""Judges from the evidence whether the promises were kept. In: `Evidence`. Out: a `Verdict` with every breach.

The promises, numbered as in DESIGN.md: 1 nothing lost, 2 answered once, 3 in order and without gaps.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import orjson

from actions.idempotency import scoped
from ops.chaos import plan
from ops.chaos.evidence import Evidence, Kept
from ops.chaos.faults import Trouble
from ops.chaos.load import Sent, Talk

STOCK = {"utter_action_failed", "utter_holding"}  # the platform's apologies: an answer with one needs a fault as cause
ACTION = "action_track_order"  # the action that records an inquiry in the shop
# Faults that can make an action fail: lost calls, and a frozen worker, whose deadlines pass meanwhile.
EXCUSES = (plan.ACTIONS_KILL, plan.CUT_ACTIONS, plan.FREEZE)
TURN_MS = 11_000  # longest turn: a fault that ended this long before the answer can still be its cause


@dataclass(frozen=True)
class Breach:
    """A broken promise. `seen` has details by which its cause can be found."""

    kind: str
    conversation: str
    message_id: str
    seen: str


@dataclass
class Verdict:
    """The counts of a round and its breaches."""

    counts: Dict[str, int]
    breaches: List[Breach]

    def show(self) -> Dict[str, Any]:
        """Return the verdict as JSON for the report."""
        return {"counts": self.counts, "breaches": [asdict(breach) for breach in self.breaches]}


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on all conversations."""
    breaches = [breach for talk in evidence.talks for breach in _conversation(evidence, talk)]
    breaches += _side_effects(evidence)
    if evidence.lag != 0:
        breaches.append(Breach("offsets were not committed", "", "", f"{evidence.lag} records behind"))
    return Verdict(_counts(evidence), breaches)


def _conversation(evidence: Evidence, talk: Talk) -> Iterator[Breach]:
    """Yield every breach in one conversation."""
    kept = evidence.kept[talk.key]
    for complaint in talk.complaints:
        yield Breach("unexpected answer of a gateway", talk.key, "", complaint)
    for check in (_outcomes, _published, _replies, _events):
        yield from check(evidence, talk, kept)
    if talk.streamed is not None and talk.streamed != list(range(1, len(talk.streamed) + 1)):
        yield Breach("stream has gaps or repeats", talk.key, "", _runs(talk.streamed))
    for seq, reply in kept.replies:
        if talk.replies.get(seq, reply) != reply:
            yield Breach("stream told another reply", talk.key, reply["message_id"], str(talk.replies[seq])[:200])
    if talk.streamed is not None and len(talk.streamed) < kept.seq:
        yield Breach("stream did not bring all", talk.key, "", f"{len(talk.streamed)} of {kept.seq}")


def _outcomes(evidence: Evidence, talk: Talk, kept: Kept) -> Iterator[Breach]:
    """Check that every accepted message is answered or dead-lettered, in order, and that the API reports the same.

    A stock answer (an apology) needs a fault as its cause.
    """
    last = 0
    for sent in talk.sent:
        status = evidence.statuses.get(sent.message_id)
        if sent.message_id not in kept.markers:
            yield Breach("accepted and lost", talk.key, sent.message_id, f"no outcome; the API says {status}")
            continue
        marker = orjson.loads(kept.markers[sent.message_id])
        if status != marker["status"]:
            yield Breach("sender not told", talk.key, sent.message_id, f"{marker['status']}, the API says {status}")
        letters = evidence.letters.get(talk.key, []).count(sent.message_id)
        if (marker["status"] == "failed") != bool(letters):
            yield Breach("dead letter and outcome differ", talk.key, sent.message_id, f"{marker['status']}, {letters}")
        if marker["tracker_version"] <= last:
            seen = f"version {marker['tracker_version']} after {last}"
            yield Breach("out of order", talk.key, sent.message_id, seen)
        last = marker["tracker_version"]
        yield from _content(evidence, talk, sent, marker)


def _content(evidence: Evidence, talk: Talk, sent: Sent, marker: Dict[str, Any]) -> Iterator[Breach]:
    """Check the text of an answer: it isn't empty, and has the number of the order that the customer asked for."""
    if marker["status"] == "failed":
        return
    text = " ".join(reply.get("text", "") for reply in marker["replies"])
    if STOCK & set(marker["actions"]):
        if not _excused(marker["ts"], evidence.troubles):
            yield Breach("stock answer without cause", talk.key, sent.message_id, f"{marker['actions']} {marker['ts']}")
    elif sent.number and sent.number not in text:
        yield Breach("answer of another question", talk.key, sent.message_id, f"{marker['actions']}: {text[:100]}")
    elif not text:
        yield Breach("silent", talk.key, sent.message_id, str(marker["actions"]))


def _published(evidence: Evidence, talk: Talk, kept: Kept) -> Iterator[Breach]:
    """Check that `answer.generated`, without repeated ids, equals the markers in Redis."""
    by_message: Dict[str, Dict[str, bytes]] = {}
    for answer_id, value in evidence.answers.get(talk.key, []):
        known = by_message.setdefault(orjson.loads(value)["message_id"], {})
        if known.setdefault(answer_id, value) != value:
            yield Breach("one id, two answers", talk.key, orjson.loads(value)["message_id"], answer_id)
    for sent in talk.sent:
        answers = by_message.get(sent.message_id, {})
        if len(answers) > 1:
            yield Breach("answered twice", talk.key, sent.message_id, f"ids {sorted(answers)}")
        marker = kept.markers.get(sent.message_id)
        if marker is not None and list(answers.values()) != [marker]:
            yield Breach("answer.generated differs from Redis", talk.key, sent.message_id, f"{len(answers)} records")


def _replies(evidence: Evidence, talk: Talk, kept: Kept) -> Iterator[Breach]:
    """Check that replies are numbered from 1 without gaps, and are those of the turns, each once and in order."""
    numbers = [seq for seq, _ in kept.replies]
    if numbers != list(range(1, kept.seq + 1)):
        yield Breach("sequence has gaps", talk.key, "", f"{_runs(numbers)}, last given {kept.seq}")
    answers = {answer_id: value for answer_id, value in evidence.answers.get(talk.key, [])}
    turns = sorted((orjson.loads(value) for value in answers.values()), key=lambda turn: turn["tracker_version"])
    given = [reply for turn in turns for reply in turn["replies"]]
    if [reply for _, reply in kept.replies] != given:
        twice = [name for name, count in Counter(r["message_id"] for _, r in kept.replies).items() if count > 1]
        yield Breach("replies are not those of the turns", talk.key, ",".join(twice), f"{len(numbers)}, {len(given)}")
    if evidence.replies.get(talk.key) != [reply for _, reply in kept.replies]:
        yield Breach("the API shows other replies", talk.key, "", f"{len(evidence.replies.get(talk.key) or [])}")


def _events(evidence: Evidence, talk: Talk, kept: Kept) -> Iterator[Breach]:
    """Check that `dialogue.events`, without repeated ids, equals the turns in Redis."""
    by_id: Dict[str, Tuple[int, Any]] = {}
    for turn_id, value in evidence.events.get(talk.key, []):
        turn = orjson.loads(value)
        # `ts` is left out, because it is the time of publication and differs when a turn is published again.
        content = (turn["tracker_version"], turn["events"])
        if by_id.setdefault(turn_id, content) != content:
            yield Breach("one id, two turns", talk.key, turn_id, f"version {turn['tracker_version']}")
    turns = dict(by_id.values())
    if len(turns) < len(by_id):
        yield Breach("one version, two turns", talk.key, "", f"{sorted(version for version, _ in by_id.values())}")
    for turn in kept.turns:
        if turns.get(turn["v"]) != turn["events"]:
            yield Breach("dialogue.events differs from Redis", talk.key, "", f"version {turn['v']}")
    stored = [turn["v"] for turn in kept.turns]
    if stored != sorted(set(stored)) or (stored and stored[-1] > kept.version):
        yield Breach("turns are not in order", talk.key, "", f"{stored}, version {kept.version}")


def _side_effects(evidence: Evidence) -> Iterator[Breach]:
    """Check that the shop has each question about an order once, or at most once if the action failed."""
    inquiries = Counter(evidence.inquiries)
    for talk in evidence.talks:
        for sent in talk.sent:
            if sent.number is None:
                continue
            times = inquiries.pop(scoped(f"{sent.message_id}:{ACTION}:0", talk.key), 0)
            marker = orjson.loads(evidence.kept[talk.key].markers.get(sent.message_id, b"{}"))
            answered = marker.get("status") == "answered" and not STOCK & set(marker["actions"])
            if times > 1 or (answered and times != 1):
                yield Breach("side effect not once", talk.key, sent.message_id, f"{times} times")
    for key, times in inquiries.items():
        yield Breach("side effect of nothing that was asked", "", "", f"key {key}, {times} times")


def _excused(answered_ms: int, troubles: Sequence[Trouble]) -> bool:
    """Return whether a fault can be the cause of a stock answer at this time."""
    return any(
        trouble.kind in EXCUSES
        and trouble.since_ms <= answered_ms
        and (trouble.until_ms is None or answered_ms <= trouble.until_ms + TURN_MS)
        for trouble in troubles
    )


def _runs(numbers: Sequence[int]) -> str:
    """Return `1-4,6` for 1, 2, 3, 4, 6."""
    runs: List[List[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def _counts(evidence: Evidence) -> Dict[str, int]:
    markers = [orjson.loads(m) for kept in evidence.kept.values() for m in kept.markers.values()]
    answered = [marker for marker in markers if marker["status"] == "answered"]
    records = [answer_id for each in evidence.answers.values() for answer_id, _ in each]
    return {
        "conversations": len(evidence.talks),
        "accepted": sum(len(talk.sent) for talk in evidence.talks),
        "answered": len(answered),
        "dead-lettered": len(markers) - len(answered),
        "stock answers": sum(bool(STOCK & set(marker["actions"])) for marker in answered),
        "replies": sum(kept.seq for kept in evidence.kept.values()),
        "published again": len(records) - len(set(records)),
        "side effects": len(evidence.inquiries),
        "streams": sum(talk.streamed is not None for talk in evidence.talks),
    }
