"""What Locust runs, in its own environment: customers who talk by the clock, and customers who listen.

Arrivals come whether or not answers do, and a message's time counts from when it was due.
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
WAIT_S = 20
SPAWN_S = 5.0
LATE_S = 30.0  # after the last stage, for the answers under way

due = deque()  # when messages were to be said that nobody has said yet
under_way = set()  # those that somebody has said and that have no answer yet
said = []  # when it was due after the beginning, ms until the answer, whether it was one
heard = {}  # replies by stream
broken = set()  # streams that ended before the end
began = 0.0
arrived = False  # whether all messages have been put up


class Shape(LoadTestShape):
    """All customers at once; the clock says who speaks."""

    def tick(self):
        """Return how many users there are, or None at the end."""
        late_s = self.get_run_time() - SPAWN_S - SCENARIO.lasts_s
        over = late_s > LATE_S or (arrived and not due and not under_way)
        users = SCENARIO.customers + SCENARIO.streams
        return None if over else (users, users / SPAWN_S)


class Customer(FastHttpUser):
    """Somebody with a session of his own."""

    abstract = True
    network_timeout = connection_timeout = WAIT_S + 10.0

    def on_start(self):
        """Open a session; many at once are put off by the gateway's limit, as real ones would be."""
        body = {"tenant": TENANT, "site_key": SITE_KEY}
        while True:
            with self.client.post("/v1/sessions", json=body, name="session", catch_response=True) as answer:
                answer.success()
                if answer.status_code == 201:
                    self.headers = {"Authorization": f"Bearer {answer.json()['token']}"}
                    return
            gevent.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - a client's patience


class Talker(Customer):
    """Says what is due and waits for the answer."""

    fixed_count = SCENARIO.customers
    wait_time = constant(0)

    @task
    def say(self):
        """Take the oldest message that is due; whatever ends it, the end of the run included, it is counted."""
        if not due:
            gevent.sleep(0.005)
            return
        when, good = due.popleft(), False
        under_way.add(when)
        try:
            good = self._ask()
        finally:
            under_way.discard(when)
            said.append((when - began, (time.perf_counter() - when) * 1000, good))

    def _ask(self):
        """Say something; returns whether it was answered."""
        body = {"text": random.choice(TEXTS), "message_id": uuid.uuid4().hex}  # noqa: S311 - a load
        headers = {**self.headers, "Prefer": f"wait={WAIT_S}"}
        with self.client.post(
            "/v1/messages", json=body, headers=headers, name="message", catch_response=True
        ) as answer:
            good = answer.status_code == 200 and bool(answer.json().get("replies"))
            answer.success() if good else answer.failure(f"status {answer.status_code}")
            return good


class Listener(Customer):
    """Holds a stream open and says one thing a minute, so that something must come."""

    fixed_count = SCENARIO.streams
    wait_time = constant(0)

    @task
    def listen(self):
        """Read until the gateway ends it, which counts as broken."""
        heard.setdefault(id(self), 0)
        speaker = gevent.spawn(self._speak)
        try:
            with self.client.get(
                "/v1/stream", headers=self.headers, name="stream", stream=True, catch_response=True
            ) as answer:
                answer.success()
                for line in iter(lambda: answer.stream.readline(b"\n"), b""):
                    heard[id(self)] += line.startswith(b"event: reply")
        except Exception:  # noqa: BLE001 - whatever ends a stream, it is broken, counted, and opened again
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
    """Put messages up as they come: by chance, independent of each other."""
    global began, arrived
    gevent.sleep(SPAWN_S)
    began = at = time.perf_counter()
    while at - began < SCENARIO.lasts_s:
        now = time.perf_counter()
        while at <= now and at - began < SCENARIO.lasts_s:
            due.append(at)
            at += random.expovariate(max(0.01, SCENARIO.rate(at - began)))
        gevent.sleep(0.005)
    arrived = True


@events.test_start.add_listener
def start(environment, **_):
    """Begin the clock once there are customers."""
    gevent.spawn(_arrivals)


@events.quitting.add_listener
def write(environment, **_):
    """Leave what was seen."""
    found = {
        "scenario": SCENARIO.name,
        "said": said,
        "unsaid": len(due) + len(under_way),
        "streams": [0 if stream in broken else count for stream, count in heard.items()],
    }
    Path(os.environ["KEFU_LOAD_OUT"]).write_text(json.dumps(found))
    environment.process_exit_code = 0  # thresholds are judged by ops.load
