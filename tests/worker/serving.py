"""A worker in its own process, on a real Kafka and a real Redis-protocol server."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from functools import partial
from pathlib import Path

from confluent_kafka import Producer

from kefu.codec import decode, encode
from kefu.errors import StoreUnavailable
from kefu.events import USER_QUERY, AnswerGenerated, UserSaid
from kefu.settings import RedisSettings
from kefu.worker.start.collector import SOON_S
from kefu.worker.storage.conversations import Conversations
from ops.local.servers import HOST, free_port
from tests.waiting import eventually, until

ROOT = Path(__file__).parents[2]
READY_S = 300.0


class ServedWorker:
    """`python -m kefu worker` with a model, started in the root of the project."""

    def __init__(self, brokers: str, redis_url: str, model: Path, log: Path, **settings: str) -> None:
        self._brokers = brokers
        self._redis_url = redis_url
        self._port, self.health = free_port(), free_port()
        environment = {
            **os.environ,
            "KAFKA_BROKERS": brokers,
            "REDIS_URL": redis_url,
            "ACTION_ENDPOINT_URL": f"http://{HOST}:9/webhook",
            "KEFU_MODEL": str(model),
            "KEFU_WORKER_PORT": str(self._port),
            "KEFU_WORKER_HEALTH_PORT": str(self.health),
            **settings,
        }
        self._log = log
        with open(log, "wb") as file:
            command = [sys.executable, "-m", "kefu", "worker"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)

    def wait_ready(self) -> None:
        """Wait until the worker takes messages."""
        until(self._ready, "the worker to be ready", READY_S)

    def _ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{self.health}/readyz", timeout=5):
            return True
        return False

    def ask(self, text: str) -> AnswerGenerated:
        """Send a message of a new customer through the inbox; return its answer."""
        said = UserSaid("demo", f"u{uuid.uuid4().hex[:8]}", "m1", text=text)
        producer = Producer({"bootstrap.servers": self._brokers})
        producer.produce(USER_QUERY, encode(said), said.conversation.encode())
        assert producer.flush(20) == 0
        marker = asyncio.run(self._marker(said))
        return decode(marker, AnswerGenerated)

    async def _marker(self, said: UserSaid) -> bytes:
        store = Conversations(RedisSettings(url=self._redis_url))
        try:
            marker = partial(store.marker, said.conversation, said.message_id)
            return await eventually(marker, f"an answer, see {self._log}", not_yet=(StoreUnavailable,))
        finally:
            await store.close()

    def swap(self, model: Path) -> dict:
        """Swap the model over HTTP; return the answer's body."""
        url, body = f"http://{HOST}:{self._port}/model", json.dumps({"model_file": str(model)}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=READY_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error

    def has_mapped(self, library: str) -> bool:
        """Return whether the process has loaded a shared library of this package."""
        return f"/{library}/" in Path(f"/proc/{self.process.pid}/maps").read_text()

    def rss_mb(self) -> float:
        """Return the process's resident memory, in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def tidied_rss_mb(self) -> float:
        """Return the least resident memory, in MiB, until even a busy worker has tidied up."""
        deadline, least = time.monotonic() + SOON_S + 2, self.rss_mb()
        while time.monotonic() < deadline:
            time.sleep(0.2)
            least = min(least, self.rss_mb())
        return least

    def stop(self) -> None:
        """Let the worker drain and end; wait for it."""
        self.process.terminate()
        self.process.wait(40)
