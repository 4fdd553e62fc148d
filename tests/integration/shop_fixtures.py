"""The real shop and the real action server as processes of their own, for tests."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ops.local.servers import free_port
from tests.waiting import until

TOKEN = "service-token-of-the-tests"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Server:
    """A running process and a client for it. `stderr()` returns its log."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    http: httpx.Client = field(repr=False)

    def stderr(self) -> str:
        return self.log.read_text(encoding="utf-8")


@contextlib.contextmanager
def serving(command: Sequence[str], env: dict[str, str], url: str, probe: str, log: Path) -> Iterator[Server]:
    """Run `python -m` with these words until the block ends; it must answer 200 at `probe`."""
    # The server gets `env` only, and no settings of the developer's own environment.
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env={**plain, **env}, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
            _wait_ready(process, http, probe, log)
            yield Server(process, url, log, http)
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    """Send a signal to a process and return its exit code. A process that does not end within 60 s is killed."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", http: httpx.Client, probe: str, log: Path) -> None:
    def ready() -> bool:
        assert process.poll() is None, f"server not ready: {log.read_text(encoding='utf-8')[-2000:]}"
        return http.get(probe).status_code == 200

    until(ready, f"{probe}, see {log}", not_yet=(httpx.TransportError,))


def shop_env(port: int, database_url: str) -> dict[str, str]:
    return {"KEFU_SHOP_PORT": str(port), "KEFU_SHOP_DATABASE_URL": database_url, "KEFU_SHOP_TOKEN": TOKEN}


@contextlib.contextmanager
def running_shop(folder: Path, database_url: str = "") -> Iterator[Server]:
    """A shop with its own demo data in a SQLite file of `folder`, or in the database given."""
    port = free_port()
    env = shop_env(port, database_url or f"sqlite:///{folder / 'shop.db'}")
    with serving(["ops.local.shop"], env, f"http://127.0.0.1:{port}", "/readyz", folder / "shop.log") as shop:
        shop.http.headers.update({"Authorization": f"Bearer {TOKEN}", "X-Tenant": "demo"})
        yield shop


@contextlib.contextmanager
def running_actions(folder: Path, shop_url: str, timeout_s: float = 20.0) -> Iterator[Server]:
    """An action server that uses the shop at `shop_url`."""
    port, health_port = free_port(), free_port()
    env = {
        "KEFU_ACTION_PORT": str(port), "KEFU_ACTION_HEALTH_PORT": str(health_port), "SHOP_URL": shop_url,
        "KEFU_SHOP_TOKEN": TOKEN, "KEFU_SHOP_TIMEOUT_S": str(timeout_s),
    }  # fmt: skip
    ready = f"http://127.0.0.1:{health_port}/readyz"
    with serving(["kefu", "actions"], env, f"http://127.0.0.1:{port}", ready, folder / "actions.log") as server:
        yield server


def action_call(action: str, user: str | None = None, tenant: str = "demo", **slots: Any) -> dict[str, Any]:
    """Return a call in the shape of Rasa 3.6.21's RemoteAction; `user` None is a guest."""
    text = slots.pop("text", "我的订单到哪了")
    metadata = {"tenant": tenant, "user": user or "guest-1", "identified": user is not None, "message_id": "m-1"}
    message = {
        "intent": {"name": "track_order", "confidence": 0.98}, "entities": [], "text": text, "message_id": "m-1",
        "metadata": metadata, "text_tokens": [[0, 2]], "intent_ranking": [{"name": "track_order", "confidence": 0.98}],
    }  # fmt: skip
    filled = {"language": "zh", "requested_slot": None, "order_number": None, "phone_last4": None, **slots}
    candidates = [
        {"event": "slot", "timestamp": 1.0, "name": n, "value": v} for n, v in slots.items() if n != "language"
    ]
    tracker = {
        "sender_id": f"{tenant}:{user or 'guest-1'}", "slots": filled, "latest_message": message,
        "latest_event_time": 1.0, "followup_action": None, "paused": False, "latest_input_channel": "kafka",
        "active_loop": {}, "latest_action": {"action_name": "action_listen"}, "latest_action_name": "action_listen",
        "events": [{"event": "action", "timestamp": 1.0, "name": "track_order_form"}, *candidates],
    }  # fmt: skip
    return {
        "next_action": action, "sender_id": tracker["sender_id"], "tracker": tracker, "version": "3.6.21",
        "domain": {"slots": {}, "forms": {"track_order_form": {"required_slots": ["order_number", "phone_last4"]}}},
    }  # fmt: skip
