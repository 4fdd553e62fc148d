"""Every response has the security headers, and no header value can add another header."""

from kefu.gateway.responses import SECURITY, Answer, json_answer


def sent(answer):
    """Return the sent headers: name in lower case to value."""
    lines = b"".join(b"%b: %b\r\n" % line for line in answer.processed_headers).decode().split("\r\n")[:-1]
    pairs = [line.split(": ", 1) for line in lines]
    assert len(dict(pairs)) == len(pairs)
    return {name.lower(): value for name, value in pairs}


def test_a_response_has_security_headers_and_its_own():
    headers = sent(json_answer({"a": 1}, 202, {"Location": "/x"}))
    assert headers.items() >= {name.lower(): value for name, value in SECURITY.items()}.items()
    assert (headers["location"], headers["content-type"]) == ("/x", "application/json")


def test_a_responses_own_header_replaces_the_common_one():
    headers = sent(Answer(b"x", 200, {"cache-control": "no-cache"}, "text/css"))
    assert headers["cache-control"] == "no-cache"
    assert headers["x-frame-options"] == SECURITY["X-Frame-Options"]


def test_a_response_without_body_has_no_content_type():
    assert "content-type" not in sent(Answer(None, 304, {}))


def test_a_header_value_can_not_break_its_line():
    """Line breaks in a value would otherwise add headers to the response."""
    headers = sent(json_answer({}, 200, {"Location": "/x\r\nSet-Cookie: a=b\r\n\r\n<html>\x00"}))
    assert headers["location"] == "/xSet-Cookie: a=b<html>" and "set-cookie" not in headers
