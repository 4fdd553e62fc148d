"""Starts a worker anew and looks at its first answers: real sentences in each language, one at a time.

A worker is ready once it has loaded its model, rehearsed each intent in each language in memory, joined its group and
reached Redis. What is measured here is whether that is all: the first answers after it are compared with later ones.
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

# A question with a look-up, and talk; each language has its own way through NLU.
SENTENCES = ("我的订单20260001到哪了", "where is my order 20260001?", "你好", "thanks a lot")
FIRST = len(SENTENCES) * 2
LATER = 60
WAIT_S = 20
FAST = 3.0  # times the median of later answers


@dataclass(frozen=True)
class Warmth:
    """What was seen. Times in s and ms, from the moment in which the new worker's process began.

    Attributes:
        ready_s: until the new one said that it is ready.
        fast_s: until the first answer that took no more than FAST times the later ones' median; -1 for none.
        first_ms: of the first answers, one for each sentence in turn.
        later_ms: median of the later ones.
    """

    ready_s: float
    fast_s: float
    first_ms: Tuple[float, ...]
    later_ms: float

    @property
    def slowdown(self) -> float:
        """The first answers' median over the later ones'; the same sentences, so 1 is as warm as it gets."""
        return statistics.median(self.first_ms) / self.later_ms


def measure(stack: Stack) -> Warmth:
    """End the only worker in order, wait for its successor, talk to it. Blocks.

    Killed with -9, the old one would hold its partitions for the 10 s of its session, and nothing else would be seen.

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
    """Say so many sentences, one after the other; returns when each was answered, and after how many ms."""
    found = []
    headers = {"Authorization": f"Bearer {token}", "Prefer": f"wait={WAIT_S}"}
    for number in range(count):
        body = {"text": SENTENCES[number % len(SENTENCES)], "message_id": uuid.uuid4().hex}
        began = time.monotonic()
        answer = client.post("/v1/messages", json=body, headers=headers)
        if answer.status_code != httpx.codes.OK or not answer.json()["replies"]:
            raise RuntimeError(f"no answer: status {answer.status_code}")
        found.append((time.monotonic(), (time.monotonic() - began) * 1000))
    return found
