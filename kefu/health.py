"""`/livez`, `/readyz` and `/metrics` on a port of their own, for processes whose main port is Rasa's.

A thread serves them, so that a probe is answered while the event loop is busy.
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
        path: the request's path, without query.
        missing: names the reasons why the process is not ready; empty when it is ready.
        stuck: names the faults after which only a restart helps; empty while the process is alive.
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
            timeout = 5  # s; ends the thread of a probe that connects and sends nothing

            def do_GET(self) -> None:  # http.server calls it by this name
                status, kind, body = answer(self.path.partition("?")[0], missing, stuck)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                # A probe that closed the connection has timed out, and reports that itself.
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Log no requests, because probes come all the time."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True

    def start(self) -> None:
        """Serve the probes from a daemon thread."""
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def stop(self) -> None:
        """Close the port. Blocks for at most half a second."""
        self._server.shutdown()
        self._server.server_close()
