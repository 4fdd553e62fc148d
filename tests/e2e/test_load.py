"""The load tool's shortest scenario on the whole system, and the workflow files that run it at night."""

import http.server
import json
import subprocess
import threading
import time

import pytest

from ops.load import __main__ as load
from ops.local.servers import LOCAL, ROOT

CHECK = LOCAL / "load" / "bin" / "check-jsonschema"


@pytest.mark.timeout(300)
def test_load_tool_runs_judges_and_accepts_a_scenario(stack, tmp_path):
    """`python -m ops.load run smoke` on a good system, then `accept`, which stores the figures of the run."""
    words = ["--results", str(tmp_path), "--accepted", str(tmp_path / "accepted"), "--no-thresholds"]
    assert load.main(["run", "smoke", "--url", stack.url("gateway"), *words]) == load.GOOD
    figures = json.loads((tmp_path / "smoke.json").read_text())
    assert figures["messages"] > 100 and figures["failed"] == 0 and figures["silent_streams"] == 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert load.main(["accept", "smoke", *words]) == load.GOOD
    assert json.loads((tmp_path / "accepted" / "smoke.json").read_text()) == figures


def test_load_run_without_an_installation_is_not_good(tmp_path):
    """Nothing listens at the address."""
    words = ["--results", str(tmp_path), "--accepted", str(tmp_path)]
    assert load.main(["run", "smoke", "--url", "http://127.0.0.1:9", "--scale", "0.05", *words]) != load.GOOD


@pytest.fixture
def slow_gateway():
    """A gateway that holds each message for 4 s and answers every tenth with HTML: its URL and the messages' ids."""
    asked = []

    class Gateway(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/sessions":
                return self.answer(201, b'{"token": "t"}')
            if "message_id" not in body:  # from a customer who has a stream open
                return self.answer(202, b"{}")
            asked.append(body["message_id"])
            broken = len(asked) % 10 == 0
            time.sleep(4.0)
            return self.answer(200, b"<html>" if broken else b'{"replies": [{"text": "hello"}]}')

        def do_GET(self):
            self.answer(503, b"")

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()


@pytest.mark.timeout(180)
def test_load_tool_counts_slow_and_failed_messages(slow_gateway, tmp_path):
    """A gateway takes 4 s for each message and answers every tenth by a text that is no JSON."""
    url, asked = slow_gateway
    load.main(["run", "smoke", "--url", url, "--results", str(tmp_path), "--accepted", str(tmp_path / "accepted")])
    figures = json.loads((tmp_path / "smoke.json").read_text())
    assert figures["messages"] == len(asked) > 100
    assert figures["failed"] == pytest.approx((len(asked) // 10) / len(asked))


@pytest.mark.parametrize(
    "schema, files",
    [
        ("vendor.github-workflows", sorted((ROOT / ".github" / "workflows").glob("*.yml"))),
        ("vendor.gitlab-ci", [ROOT / ".gitlab-ci.yml"]),
    ],
)
def test_workflow_files_satisfy_githubs_and_gitlabs_schemas(schema, files, tmp_path):
    """A file with a misspelt key is refused, which shows that the check works."""
    assert files
    check = [str(CHECK), "--builtin-schema", schema]
    done = subprocess.run([*check, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(files[0].read_text().replace("runs-on:", "runs:").replace("script:", "scripts:"))
    assert subprocess.run([*check, str(wrong)], capture_output=True).returncode != 0
