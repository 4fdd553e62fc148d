"""Probes, headers, problems, files of the page, and logs without secrets."""

import logging

import httpx
import pytest

from tests.integration.gateway_kit import bearer, serve, settings
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


async def test_gateway_answers_unknown_routes_404_and_methods_405(served):
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/sessions", 405), ("PUT", "/", 405)):
        answer = await served.client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status
    assert "POST" in (await served.client.get("/v1/sessions")).headers["allow"]


async def test_500_of_the_gateway_repeats_nothing_of_the_request(served, caplog):
    served.inbox.on_said = lambda said: 1 / 0
    answer = await served.say(await served.token(), {"text": "my secret text"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:kefu:problem:internal")
    assert "secret" not in answer.text and "my secret text" not in caplog.text


async def test_a_gateway_without_kafka_is_alive_but_not_ready(served):
    assert (await served.client.get("/livez")).status_code == 200
    answer = await served.client.get("/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["kafka"])
    metrics = await served.client.get("/metrics")
    assert "kefu_http_requests_total" in metrics.text and metrics.headers["content-type"].startswith("text/plain")


async def test_a_fatal_producer_error_fails_both_probes(served):
    """Only a restart mends it, and the failed liveness probe causes one."""
    served.inbox.failure = "_FENCED"
    for path in ("/livez", "/readyz"):
        answer = await served.client.get(path)
        assert answer.status_code == 503 and "producer: _FENCED" in answer.json()["missing"]


async def test_every_gateway_response_has_the_security_headers(served):
    for path in ("/", "/livez", "/v1/replies", "/nothing"):
        headers = (await served.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "set-cookie" not in headers
    assert "unsafe" not in (await served.client.get("/")).headers["content-security-policy"]


async def test_only_versioned_files_of_the_page_are_cached_for_ever(served):
    page = await served.client.get("/")
    assert page.headers["cache-control"] == "no-cache" and "{{" not in page.text
    versioned = page.text.partition('src="/static/chat.js')[2].partition('"')[0]
    kept = await served.client.get(f"/static/chat.js{versioned}")
    assert "immutable" in kept.headers["cache-control"] and "javascript" in kept.headers["content-type"]
    plain = await served.client.get("/static/api.js")
    assert plain.headers["cache-control"] == "no-cache"
    same = await served.client.get("/static/api.js", headers={"If-None-Match": plain.headers["etag"]})
    assert same.status_code == 304
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/index.html", "/static/"):
        assert (await served.client.get(path)).status_code == 404


async def test_gateway_logs_no_token_no_query_and_no_text(served, caplog):
    caplog.set_level(logging.DEBUG, logger="kefu")
    caplog.set_level(logging.DEBUG, logger="sanic")
    token = await served.token("alice")
    link = (await served.say(token, {"text": "my secret text"})).json()["links"]["self"]
    await served.client.get(link, headers=bearer(token))

    def logged():
        return " ".join(str(vars(record)) for record in caplog.records if not record.name.startswith("http"))

    await eventually(lambda: "/v1/messages/<message_id:str>" in logged())
    for secret in (token, "my secret text", "receipt=", link.partition("receipt=")[2]):
        assert secret not in logged()


async def test_streamed_request_body_above_the_limit_is_413(served):
    head = {**bearer(await served.token()), "content-type": "application/json"}

    async def endless():
        for _ in range(200):
            yield b"x" * 1000

    try:
        assert (await served.client.post("/v1/messages", content=endless(), headers=head)).status_code == 413
    except httpx.TransportError:
        pass  # the gateway closes the connection while the client still writes, so the client may miss the response
    assert not served.inbox.said


async def test_chat_page_of_another_tenant_offers_no_demo_login(valkey):
    async with serve(valkey.settings, settings(demo_login=True, page_tenant="other")) as served:
        page = (await served.client.get("/")).text
        assert "other-site" in page and "alice" not in page
