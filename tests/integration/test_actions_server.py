"""The action server over HTTP, called as Rasa 3.6.21 calls it, with the real shop behind it."""

import http.server
import threading
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import orjson
import pytest
import yaml

from ops.local.servers import ROOT, free_port
from tests.integration.shop_fixtures import TOKEN, action_call, running_actions, running_shop, stop
from tests.shop_samples import PROCESSING_JSON
from tests.waiting import until

TRACK, VALIDATE = "action_track_order", "validate_track_order_form"
SECRET_TEXT = "my phone is 13912345678 and my name is Zhang"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with running_shop(tmp_path_factory.mktemp("shop")) as server:
        yield server


@pytest.fixture(scope="module")
def actions(shop, tmp_path_factory):
    with running_actions(tmp_path_factory.mktemp("actions"), shop.url, timeout_s=20.0) as server:
        yield server


def said(answer: httpx.Response) -> list[dict]:
    """Return an action's responses without their empty fields."""
    assert answer.status_code == 200, answer.text
    return [{key: value for key, value in each.items() if value} for each in answer.json()["responses"]]


def track(actions, user=None, key="", **slots) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return actions.http.post("/webhook", json=action_call(TRACK, user, **slots), headers=headers)


@pytest.mark.parametrize(
    ("number", "response", "parts"),
    [
        ("20260001", "utter_order_shipped", {"carrier", "tracking_number"}),
        ("20260002", "utter_order_awaiting_payment", set()),
        ("20260003", "utter_order_delivered", {"delivered_on"}),
        ("20260004", "utter_order_cancelled", set()),
        ("20260005", "utter_order_partly_refunded", {"refunded", "amount"}),
    ],
)
def test_tracking_action_names_the_state_of_the_order(actions, number, response, parts):
    """alice has one order in each of five states; each state has its own response."""
    (reply,) = said(track(actions, "alice", order_number=number))
    assert (reply["response"], reply["order_number"]) == (response, number)
    assert parts <= set(reply)


def test_tracking_action_gives_the_shops_carrier_and_number(actions, shop):
    stored = shop.http.get("/v1/orders/20260001", headers={"X-Customer": "alice"}).json()
    for language in ("zh", "en"):
        (reply,) = said(track(actions, "alice", order_number="20260001", language=language))
        assert reply["carrier"] == stored["carrier"][language]
        assert reply["tracking_number"] == stored["tracking_number"]


def test_tracking_action_finds_no_order_of_another_customer(actions):
    """The customer or the tenant differs from the order's; the answer is that of a missing order."""
    for asked in (track(actions, "bob", order_number="20260001"),
                  track(actions, "alice", order_number="20260001", tenant="other")):  # fmt: skip
        assert said(asked) == [{"response": "utter_order_not_found", "template": "utter_order_not_found",
                                "order_number": "20260001"}]  # fmt: skip


def test_guest_has_five_attempts_at_the_phone_digits(actions):
    """A guest names the last four digits of the order's phone; the sixth wrong attempt has a response of its own."""
    right = track(actions, order_number="20260004", phone_last4="1234")
    wrong = [said(track(actions, order_number="20260004", phone_last4=f"000{n}"))[0]["response"] for n in range(6)]
    assert said(right)[0]["response"] == "utter_order_cancelled"
    assert wrong == ["utter_order_not_found"] * 5 + ["utter_order_attempts_exceeded"]


def test_form_is_validated_without_a_domain_in_the_call(actions):
    call = action_call(VALIDATE)
    call["tracker"]["latest_message"]["entities"] = [{"entity": "order_number", "value": "２０２６０００１"}]
    del call["domain"]
    answer = actions.http.post("/webhook", json=call)
    assert {event["name"]: event["value"] for event in answer.json()["events"]} == {
        "order_number": "20260001", "requested_slot": "phone_last4"}  # fmt: skip


def test_action_server_asks_once_for_a_domain_it_only_knows_by_digest(actions):
    """449 asks the worker for the domain; after one call with it, the digest is enough."""
    call = action_call(VALIDATE, order_number="20260001")
    domain, call["domain_digest"] = call.pop("domain"), uuid.uuid4().hex
    assert actions.http.post("/webhook", json=call).status_code == 449
    assert actions.http.post("/webhook", json={**call, "domain": domain}).status_code == 200
    assert actions.http.post("/webhook", json=call).status_code == 200


def test_action_server_accepts_a_compressed_call(actions):
    body = zlib.compress(orjson.dumps(action_call(TRACK, "alice", order_number="20260001")))
    answer = actions.http.post("/webhook", content=body, headers={"Content-Encoding": "deflate"})
    assert said(answer)[0]["response"] == "utter_order_shipped"


def inquiries(shop, number) -> int:
    return shop.http.get("/v1/inquiries", params={"number": number}).json()["count"]


def test_repeated_action_calls_make_one_inquiry_in_the_shop(actions, shop):
    """Nine calls have the same idempotency key: eight at once, one later."""
    before = inquiries(shop, "20260002")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: track(actions, "alice", "m-7:t:0", order_number="20260002"), range(8)))
    answers.append(track(actions, "alice", "m-7:t:0", order_number="20260002"))
    assert len({answer.content for answer in answers}) == 1
    assert inquiries(shop, "20260002") == before + 1


def test_200_concurrent_action_calls_make_200_inquiries(actions, shop):
    """Their idempotency keys differ."""
    before = inquiries(shop, "20260005")
    with ThreadPoolExecutor(32) as pool:
        calls = pool.map(lambda n: track(actions, "alice", f"rush-{n}:t:0", order_number="20260005"), range(200))
        assert {answer.status_code for answer in calls} == {200}
    assert inquiries(shop, "20260005") == before + 200


def test_two_action_servers_with_one_key_make_one_inquiry(actions, shop, tmp_path):
    before = inquiries(shop, "20260003")
    with running_actions(tmp_path, shop.url) as other:
        answers = [track(each, "alice", "m-8:t:0", order_number="20260003") for each in (actions, other)]
    assert answers[0].content == answers[1].content
    assert inquiries(shop, "20260003") == before + 1


def test_same_key_of_two_users_gives_each_their_own_answer(actions):
    """Customers choose message ids, of which the key is made."""
    hers = track(actions, "alice", "same:t:0", order_number="20260001")
    his = track(actions, "bob", "same:t:0", order_number="20260001")
    assert said(hers)[0]["response"] == "utter_order_shipped"
    assert said(his)[0]["response"] == "utter_order_not_found"


def test_failed_action_is_500_without_the_customers_data(actions):
    """Neither the response nor the log contains the customer's text, id or digits."""
    answer = track(actions, None, order_number="20260001", text=SECRET_TEXT)
    assert answer.status_code == 500
    assert answer.json() == {"error": "ActionFailed", "action_name": TRACK}
    until(lambda: "action failed" in actions.stderr())
    assert not any(part in actions.stderr() for part in ("13912345678", "Zhang", "alice", "1234"))


def test_unknown_action_is_404_and_malformed_call_400(actions):
    assert actions.http.post("/webhook", json=action_call("action_nope")).status_code == 404
    for body in (b"", b"{", b"[]", b'{"next_action": 1, "tracker": {}}', b'{"next_action": "a"}'):
        assert actions.http.post("/webhook", content=body).status_code == 400
    bomb = zlib.compress(b" " * 20_000_000)
    assert actions.http.post("/webhook", content=bomb, headers={"Content-Encoding": "deflate"}).status_code == 400


def test_action_server_lists_exactly_the_domains_actions(actions):
    named = set(yaml.safe_load((ROOT / "domain.yml").read_text(encoding="utf-8"))["actions"])
    assert {each["name"] for each in actions.http.get("/actions").json()} == named
    assert actions.http.get("/health").json() == {"status": "ok"}


def test_action_server_without_a_shop_fails_actions_but_is_healthy(tmp_path):
    with running_actions(tmp_path, f"http://127.0.0.1:{free_port()}", timeout_s=1.0) as actions:
        answer = track(actions, "alice", order_number="20260001")
        assert (answer.status_code, answer.json()["error"]) == (500, "ShopUnavailable")
        assert actions.http.get("/health").status_code == 200
        assert stop(actions.process) == 0


class Flaky(http.server.BaseHTTPRequestHandler):
    """A shop that answers look-ups slowly, or `failures` times with 503 and then with an order. It counts the calls.

    It answers inquiries with the statuses of `notes`, then with 201. It keeps their keys and its answers.
    """

    protocol_version = "HTTP/1.1"
    failures, delay_s, calls = 0, 0.0, 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.calls += 1
        time.sleep(cls.delay_s)
        failing = cls.calls <= cls.failures
        self._send(503 if failing else 200, b"" if failing else orjson.dumps(PROCESSING_JSON))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Idempotency-Key"])
        self.answered.append(self.notes.pop(0) if self.notes else 201)
        self._send(self.answered[-1], b"{}")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def flaky_shop(failures: int = 0, delay_s: float = 0.0, notes: tuple = ()):
    kept = {"notes": [*notes], "keys": [], "answered": []}
    handler = type("Handler", (Flaky,), {"failures": failures, "delay_s": delay_s, **kept})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        server.server_close()


def test_look_up_is_retried_after_one_503_of_the_shop(tmp_path):
    with flaky_shop(failures=1) as (url, handler), running_actions(tmp_path, url) as actions:
        assert said(track(actions, "alice", order_number="20260001"))[0]["response"] == "utter_order_processing"
        assert handler.calls == 2


def test_look_up_is_given_up_after_three_503_of_the_shop(tmp_path):
    with flaky_shop(failures=9) as (url, handler), running_actions(tmp_path, url) as actions:
        assert track(actions, "alice", order_number="20260001").json()["error"] == "ShopUnavailable"
        assert handler.calls == 3


def test_action_fails_within_its_time_budget_if_the_shop_hangs(tmp_path):
    hangs_s = 40
    with flaky_shop(delay_s=hangs_s) as (url, handler), running_actions(tmp_path, url, timeout_s=4.0) as actions:
        started = time.monotonic()
        assert track(actions, "alice", order_number="20260001").status_code == 500
        assert time.monotonic() - started < hangs_s / 2
        assert handler.calls in (2, 3)  # two fit into the budget; a third may have begun in the remaining time


def test_inquiry_is_retried_in_the_background(tmp_path):
    """The shop answers 503 to the record of an inquiry; the action has long answered the customer."""
    away = (503,) * 6  # two calls of three attempts each
    with flaky_shop(notes=away) as (url, handler), running_actions(tmp_path, url, timeout_s=4.0) as actions:
        assert (
            said(track(actions, "alice", "m:t:0", order_number="20260001"))[0]["response"] == "utter_order_processing"
        )
        until(lambda: len(handler.keys) > len(away), "one more try of the inquiry")
        assert len(set(handler.keys)) == 1


def test_refused_inquiry_is_not_retried(tmp_path):
    """The shop answers 403, which a repetition would not change."""
    with flaky_shop(notes=(403,)) as (url, handler), running_actions(tmp_path, url) as actions:
        assert (
            said(track(actions, "alice", "m:t:0", order_number="20260001"))[0]["response"] == "utter_order_processing"
        )
        assert stop(actions.process) == 0  # the stop waits for calls in progress
        assert len(handler.keys) == 1
        assert '"shop not told"' in actions.stderr()


def test_stopping_action_server_finishes_background_inquiries(tmp_path):
    # Two calls of three attempts each take longer than the action waits for them, and less time than the stop waits.
    with flaky_shop(notes=(503,) * 6) as (url, handler), running_actions(tmp_path, url, timeout_s=4.0) as actions:
        assert (
            said(track(actions, "alice", "m:t:0", order_number="20260001"))[0]["response"] == "utter_order_processing"
        )
        assert stop(actions.process) == 0
        assert len(set(handler.keys)) == 1
        assert handler.notes == [] and handler.answered[-1] == 201


def test_failed_action_call_is_run_again_under_the_same_key(tmp_path):
    """The action server keeps answers under their key, but no failures."""
    with flaky_shop(failures=3) as (url, _), running_actions(tmp_path, url) as actions:
        answers = [track(actions, "alice", "m:t:0", order_number="20260001").status_code for _ in range(2)]
        assert answers == [500, 200]


def test_service_token_of_the_shop_is_never_logged(actions, shop):
    track(actions, "alice", order_number="20260001")
    assert TOKEN not in actions.stderr() + shop.stderr()
