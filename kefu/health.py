"""`/livez`, `/readyz` and `/metrics` on a port of their own, for processes whose main port is Rasa's.

Served from a thread, so that a probe is answered while the event loop works.
"""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, List, Tuple

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Missing = Callable[[], List[str]]
Answer = Tuple[int, str, bytes]


def answer(path: str, missing: Missing, stuck: Missing = list) -> Answer:
    """Return status, content type and body for a probe's path; 404 for any other.

    Args:
        path: of the request, without query.
        missing: names what keeps the process from being ready; empty when it is.
        stuck: names what only a restart can mend; empty while alive.
    """
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest()
    if path in ("/readyz", "/livez"):
        lacking = missing() if path == "/readyz" else stuck()
        body = {"status": "unavailable" if lacking else "ok", "missing": lacking}
        return (503 if lacking else 200), "application/json", json.dumps(body).encode()
    return 404, "application/json", b'{"status": "not found"}'


class HealthServer:
    """The probes of one process; `start` returns at once, `stop` closes the port."""

    def __init__(self, host: str, port: int, missing: Missing, stuck: Missing = list) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a probe that connects and says nothing must not keep its thread

            def do_GET(self) -> None:  # the name is http.server's
                status, kind, body = answer(self.path.partition("?")[0], missing, stuck)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                # A probe that has given up is not news either: its own time is over, which it counts itself.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Probes are not news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    def start(self) -> None:
        """Serve from a daemon thread."""
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Close the port. Blocks for at most half a second."""
        self._server.shutdown()
        self._server.server_close()
