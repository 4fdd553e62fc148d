"""`python -m kefu release status|check`: who serves, and whether the track of this pod may be switched to.

Run inside a worker's pod, whose settings it uses:
`kubectl exec deploy/kefu-worker-green -- python -m kefu release check`.
"""

import argparse
import asyncio
import json
import time
import uuid
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, List

import orjson

from kefu.codec import decode, encode
from kefu.errors import StoreUnavailable
from kefu.events import CANDIDATE_QUERY, GUEST_PREFIX, USER_QUERY, AnswerGenerated, UserSaid
from kefu.kafka import EventProducer
from kefu.keys import track_domain, track_workers
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.release.plan import TRACKS
from kefu.worker.release.relied import missing
from kefu.worker.release.tracks import ALIVE_S, BEAT_S, Entry, Track, pairs
from kefu.worker.storage.conversations import Conversations

DONE, REFUSED = 0, 1  # exit codes
TENANT = "release-check"  # the default of --tenant; no real tenant has this name, so no customer's data is read
CONVERSATIONS = 4  # how many test conversations `check` has with the candidate, side by side
TEXTS = ("你好", "我的订单到哪了", "20260001", "where is my order 20260001", "thank you")  # of each test conversation
MOST_BEATS = int(ALIVE_S / BEAT_S)  # a worker whose beat has not changed in this many looks counts as dead
ANSWER_S = 30.0  # the longest wait for the answer to a test message
LOOK_S = 0.05  # between two looks for the answer
APOLOGIES = {"utter_action_failed", "utter_holding"}  # an answer with one of these responses counts as failed
FEWEST_TURNS = 20  # a track with fewer turns is not judged by its failures, because their share means little
MORE_FAILURES = 0.02  # how much higher a track's share of failed turns may be than the active track's


def main(arguments: List[str]) -> int:
    """Run the command. Return 0, or 1 if something speaks against a switch. Raises StoreUnavailable."""
    parser = argparse.ArgumentParser(prog="python -m kefu release", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="the workers of both tracks that live, as JSON")
    checking = commands.add_parser("check", help="ask this track's workers, and compare them with the active ones")
    checking.add_argument("--fewer", action="store_true", help="though this track has fewer workers than the other")
    checking.add_argument("--tenant", default=TENANT, help="as whose customer to ask")
    options = parser.parse_args(arguments)
    if options.command == "status":
        print(json.dumps(asyncio.run(_status()), ensure_ascii=False))
        return DONE
    objections = asyncio.run(_check(WorkerSettings.from_env().track, options.fewer, options.tenant))
    print("\n".join(f"no: {objection}" for objection in objections) or "yes: it may be switched to")
    return REFUSED if objections else DONE


@asynccontextmanager
async def _store() -> AsyncIterator[Conversations]:
    conversations = Conversations(RedisSettings.from_env())
    try:
        yield conversations
    finally:
        await conversations.close()


async def _status() -> Dict[str, List[Entry]]:
    async with _store() as conversations:
        return await alive(conversations, RedisSettings.from_env().key_prefix)


async def alive(conversations: Conversations, prefix: str) -> Dict[str, List[Entry]]:
    """Return the entries of the living workers, by track: those whose beat, a counter, goes up while this looks.

    Takes about two seconds if all workers live, and `ALIVE_S` if one doesn't.
    """
    tracks = {name: Track() for name in TRACKS}
    for look in range(MOST_BEATS + 1):
        if look:
            await asyncio.sleep(BEAT_S)
        for name, track in tracks.items():
            (entries,) = await conversations.servers.on(
                track_workers(prefix, name), ("HGETALL", track_workers(prefix, name))
            )
            # The time given is the number of the look, not seconds: if this process is slow, no worker seems dead.
            track.read(pairs(entries), look)
        living = {name: track.alive(look, MOST_BEATS + 1, surely=True) for name, track in tracks.items()}
        if all(len(living[name]) == len(track.entries) for name, track in tracks.items()):
            break
    return living


async def _check(track: str, fewer: bool, tenant: str) -> List[str]:
    if track not in TRACKS:
        return ["this pod is of no track: KEFU_TRACK is not set"]
    async with _store() as conversations:
        prefix = RedisSettings.from_env().key_prefix
        workers = await alive(conversations, prefix)
        other = TRACKS[1 - TRACKS.index(track)]
        objections = about_workers(track, workers[track], workers[other], fewer)
        objections += about_turns(workers[track], workers[other])
        objections += await _about_domains(conversations, prefix, track, other)
        if workers[track] and all(each["inbox"] == CANDIDATE_QUERY for each in workers[track]):
            objections += await _about_answers(conversations, tenant, {each["model"] for each in workers[track]})
        return objections


def about_workers(track: str, own: List[Entry], others: List[Entry], fewer: bool = False) -> List[str]:
    """Return the objections to a track's workers: there are none, some read nothing, models differ, or too few."""
    if not own:
        return [f"no worker of {track} lives"]
    idle = sum(each["inbox"] not in (USER_QUERY, CANDIDATE_QUERY) for each in own)
    objections = [f"{idle} of {len(own)} workers of {track} read nothing yet"] if idle else []
    if len({each["model"] for each in own}) > 1:
        objections.append(f"the workers of {track} serve different models")
    if len(own) < len(others) and not fewer:
        objections.append(f"{track} has {len(own)} workers, the other track {len(others)}: they would not keep up")
    return objections


def about_turns(own: List[Entry], others: List[Entry]) -> List[str]:
    """Return the objection that too many of a track's turns have failed; none below FEWEST_TURNS turns."""
    turns, failed = (sum(each[name] for each in own) for name in ("turns", "failed"))
    if turns < FEWEST_TURNS:
        return []
    share = failed / turns
    usual = sum(each["failed"] for each in others) / max(1, sum(each["turns"] for each in others))
    if share <= usual + MORE_FAILURES:
        return []
    return [f"{share:.1%} of its {turns} turns failed, {usual:.1%} of the other track's"]


async def _about_domains(conversations: Conversations, prefix: str, track: str, other: str) -> List[str]:
    own, others = [await _domain(conversations, track_domain(prefix, name)) for name in (track, other)]
    if own is None or others is None:  # without both domains there is nothing to compare
        return []
    return [f"conversations under way rely on it: {problem}" for problem in missing(others, own)]


async def _domain(conversations: Conversations, key: str) -> Any:
    (domain,) = await conversations.servers.on(key, ("GET", key))
    return domain and orjson.loads(domain)


async def _about_answers(conversations: Conversations, tenant: str, models: "set[str]") -> List[str]:
    """Send test messages to the candidate, as an unknown guest; return the objections to the answers."""
    producer = EventProducer(KafkaSettings.from_env())
    try:
        talks = [_talk(conversations, producer, tenant, number) for number in range(CONVERSATIONS)]
        answers = [answer for talk in await asyncio.gather(*talks) for answer in talk]
    finally:
        await asyncio.get_running_loop().run_in_executor(None, producer.close)
    asked = CONVERSATIONS * len(TEXTS)
    objections = [f"{asked - len(answers)} of {asked} test messages were not answered"] if len(answers) < asked else []
    bad = [each for each in answers if failed(each)]
    if bad:
        reasons = ", ".join(sorted({each.reason or "an action failed, or was late" for each in bad}))
        objections.append(f"{len(bad)} of {asked} test messages failed: {reasons}")
    strange = {each.model_id for each in answers if each.model_id} - models
    return objections + [f"test messages were answered by another model: {name}" for name in sorted(strange)]


def failed(answer: AnswerGenerated) -> bool:
    """Return whether a message failed, or its answer contains an apology."""
    return answer.status != "answered" or bool(APOLOGIES & set(answer.actions))


async def _talk(
    conversations: Conversations, producer: EventProducer, tenant: str, number: int
) -> List[AnswerGenerated]:
    """Send the test messages of one conversation; return the answers. Stop at the first message without an answer."""
    user, answers = f"{GUEST_PREFIX}{uuid.uuid4().hex[:12]}", []
    for place, text in enumerate(TEXTS):
        said = UserSaid(tenant, user, f"check-{number}-{place}", text=text)
        await producer.send(CANDIDATE_QUERY, said.conversation, encode(said))
        until, marker = time.monotonic() + ANSWER_S, None
        while marker is None and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)
            try:
                marker = await conversations.marker(said.conversation, said.message_id)
            except StoreUnavailable:
                continue
        if marker is None:
            break
        answers.append(decode(marker, AnswerGenerated))
    return answers
