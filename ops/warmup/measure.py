"""Restarts a worker and measures its first answers, to real sentences in each language, one at a time.

A worker is ready once it has loaded its model, rehearsed each intent in each language in memory, joined its group and
reached Redis. The measurement shows whether that is enough: the first answers are compared with later ones.
"""

import os
import signal
import statistics
import time
import uuid
from dataclasses import dataclass
from typing import List, Tuple

import httpx

from ops.local.stack import Stack

# A question with a look-up and small talk, in each language: NLU handles languages differently.
SENTENCES = ("我的订单20260001到哪了", "where is my order 20260001?", "你好", "thanks a lot")
FIRST = len(SENTENCES) * 2
LATER = 60
WAIT_S = 20
FAST = 3.0  # longest latency of a fast answer, as a multiple of the later answers' median


@dataclass(frozen=True)
class Warmth:
    """The measurement. `ready_s` and `fast_s` count from the start of the new worker's process.

    Attributes:
        ready_s: time until the new worker was ready.
        fast_s: time until the first fast answer, see FAST; -1 without one.
        first_ms: latencies of the first answers.
        later_ms: median latency of the later answers.
    """

    ready_s: float
    fast_s: float
    first_ms: Tuple[float, ...]
    later_ms: float

    @property
    def slowdown(self) -> float:
        """Median of the first answers over the median of the later ones, to the same sentences; 1 is perfectly warm."""
        return statistics.median(self.first_ms) / self.later_ms


def measure(stack: Stack) -> Warmth:
    """Stop the only worker by SIGTERM, wait for its successor, and send it messages. Blocks.

    After `kill -9` the old worker's session would hold its partitions for 10 s, which would hide all else.

    Raises:
        RuntimeError: a message was not answered.
    """
    token = stack.token()
    with httpx.Client(base_url=stack.url("gateway"), timeout=WAIT_S + 10) as client:
        _answers(client, token, FIRST)  # the gateway, the action server and the shop are warm
        before = stack.pid("worker")
        os.kill(before, signal.SIGTERM)
        while stack.pid("worker") == before:
            time.sleep(0.01)
        began = time.monotonic()
        stack.wait_ready("worker")
        ready_s = time.monotonic() - began
        first = _answers(client, token, FIRST)
        later = _answers(client, token, LATER)
    median = statistics.median(took for _, took in later)
    fast = [at - began for at, took in first + later if took <= FAST * median]
    return Warmth(ready_s, min(fast, default=-1.0), tuple(took for _, took in first), median)


def _answers(client: httpx.Client, token: str, count: int) -> List[Tuple[float, float]]:
    """Send `count` sentences one after the other; return the time of each answer and its latency in ms."""
    answers = []
    headers = {"Authorization": f"Bearer {token}", "Prefer": f"wait={WAIT_S}"}
    for number in range(count):
        body = {"text": SENTENCES[number % len(SENTENCES)], "message_id": uuid.uuid4().hex}
        began = time.monotonic()
        answer = client.post("/v1/messages", json=body, headers=headers)
        if answer.status_code != httpx.codes.OK or not answer.json()["replies"]:
            raise RuntimeError(f"no answer: status {answer.status_code}")
        answers.append((time.monotonic(), (time.monotonic() - began) * 1000))
    return answers
