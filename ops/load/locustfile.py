"""The users that Locust runs in its own environment: customers who send messages, and customers who hold streams open.

Messages are due by the clock, whether or not earlier ones are answered; a latency counts from the time due.
Environment: KEFU_LOAD_SCENARIO, KEFU_LOAD_SCALE, KEFU_LOAD_OUT, KEFU_LOAD_SITE (tenant:site_key). One process.
"""

import json
import os
import random
import sys
import time
import uuid
from collections import deque
from pathlib import Path

import gevent
from locust import LoadTestShape, constant, events, task
from locust.contrib.fasthttp import FastHttpUser

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from ops.load.scenario import load

SCENARIO = load(os.environ["KEFU_LOAD_SCENARIO"], float(os.environ.get("KEFU_LOAD_SCALE", "1")))
TENANT, SITE_KEY = os.environ.get("KEFU_LOAD_SITE", "demo:demo").split(":", 1)
TEXTS = ("hello", "我的订单20260001到哪了", "thanks", "are you a bot", "再见", "有哪些支付方式")
WAIT_S = 20  # how long a customer asks the gateway to wait for an answer
SPAWN_S = 5.0  # the time in which all customers are started
LATE_S = 30.0  # time for the last answers after the last stage; a message without an answer by then has failed

due: deque[float] = deque()  # times of due messages that are not sent yet
under_way: set[float] = set()  # times due of sent messages without an answer
# Of each message: when it was due (s since the beginning), the ms from then to the answer, whether it was answered.
outcomes: list[tuple[float, float, bool]] = []
replies: dict[int, int] = {}  # number of replies by stream
broken: set[int] = set()  # streams that the gateway ended
began = 0.0
all_due = False  # whether all messages are in `due`


class Shape(LoadTestShape):
    """Starts all customers at the beginning. The load itself is controlled by the times at which messages are due."""

    def tick(self):
        """Return the number of users and the spawn rate, or None at the end."""
        late_s = self.get_run_time() - SPAWN_S - SCENARIO.lasts_s
        over = late_s > LATE_S or (all_due and not due and not under_way)
        users = SCENARIO.customers + SCENARIO.streams
        return None if over else (users, users / SPAWN_S)


class Customer(FastHttpUser):
    """A simulated customer who has opened a session."""

    abstract = True
    network_timeout = connection_timeout = WAIT_S + 10.0

    def on_start(self):
        """Open a session. It is tried again, because the gateway's limit refuses many sessions at once."""
        body = {"tenant": TENANT, "site_key": SITE_KEY}
        while True:
            with self.client.post("/v1/sessions", json=body, name="session", catch_response=True) as answer:
                answer.success()
                if answer.status_code == 201:
                    self.headers = {"Authorization": f"Bearer {answer.json()['token']}"}
                    return
            gevent.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - a client's patience


class Talker(Customer):
    """A customer who sends due messages and waits for each answer."""

    fixed_count = SCENARIO.customers
    wait_time = constant(0)

    @task
    def say(self):
        """Send the oldest due message. Its outcome is counted in any case, even if the run ends meanwhile."""
        if not due:
            gevent.sleep(0.005)
            return
        when, good = due.popleft(), False
        under_way.add(when)
        try:
            good = self._ask()
        finally:
            under_way.discard(when)
            outcomes.append((when - began, (time.perf_counter() - when) * 1000, good))

    def _ask(self):
        """Send a message; return whether it was answered."""
        body = {"text": random.choice(TEXTS), "message_id": uuid.uuid4().hex}  # noqa: S311 - a load
        headers = {**self.headers, "Prefer": f"wait={WAIT_S}"}
        with self.client.post(
            "/v1/messages", json=body, headers=headers, name="message", catch_response=True
        ) as answer:
            good = answer.status_code == 200 and bool(answer.json().get("replies"))
            answer.success() if good else answer.failure(f"status {answer.status_code}")
            return good


class Listener(Customer):
    """A customer who holds a stream open, and sends a message a minute, so that the stream must bring replies."""

    fixed_count = SCENARIO.streams
    wait_time = constant(0)

    @task
    def listen(self):
        """Read the stream until the gateway ends it. If that happens by an error, the stream counts as broken."""
        replies.setdefault(id(self), 0)
        speaker = gevent.spawn(self._speak)
        try:
            with self.client.get(
                "/v1/stream", headers=self.headers, name="stream", stream=True, catch_response=True
            ) as answer:
                answer.success()
                for line in iter(lambda: answer.stream.readline(b"\n"), b""):
                    replies[id(self)] += line.startswith(b"event: reply")
        except Exception:  # noqa: BLE001 - any error counts as a broken stream, which is opened again
            broken.add(id(self))
            gevent.sleep(1.0)
        finally:
            speaker.kill()

    def _speak(self):
        gevent.sleep(1.0)
        while True:
            self.client.post("/v1/messages", json={"text": "hello"}, headers=self.headers, name="aside")
            gevent.sleep(60.0)


def _arrivals():
    """Add due messages at random, independent times (Poisson arrivals)."""
    global began, all_due
    gevent.sleep(SPAWN_S)
    began = at = time.perf_counter()
    while at - began < SCENARIO.lasts_s:
        now = time.perf_counter()
        while at <= now and at - began < SCENARIO.lasts_s:
            due.append(at)
            at += random.expovariate(max(0.01, SCENARIO.rate(at - began)))
        gevent.sleep(0.005)
    all_due = True


@events.test_start.add_listener
def start(environment, **_):
    """Start the clock once the customers exist."""
    gevent.spawn(_arrivals)


@events.quitting.add_listener
def write(environment, **_):
    """Write the outcomes to KEFU_LOAD_OUT."""
    figures = {
        "scenario": SCENARIO.name,
        "said": outcomes,
        "unsaid": len(due) + len(under_way),
        "streams": [0 if stream in broken else count for stream, count in replies.items()],
    }
    Path(os.environ["KEFU_LOAD_OUT"]).write_text(json.dumps(figures))
    environment.process_exit_code = 0  # ops.load applies the thresholds
