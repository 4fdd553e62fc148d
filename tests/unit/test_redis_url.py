"""REDIS_URL names a single server, Sentinels or a cluster; a wrong URL is refused without showing its password."""

from urllib.parse import quote, unquote

import pytest

from kefu.errors import SettingsError
from kefu.redis_cluster import slot_of
from kefu.redis_url import parse
from kefu.settings import RedisSettings


@pytest.mark.parametrize(
    ("url", "host", "connection"),
    [
        ("redis://h:1/2", ("h", 1), {"db": 2}),
        ("redis://", ("localhost", 6379), {"db": 0}),
        ("redis:///3/", ("localhost", 6379), {"db": 3}),
        ("redis://[::1]:7/0", ("::1", 7), {"db": 0}),
        ("redis://:p@h", ("h", 6379), {"db": 0, "password": "p"}),
        ("redis://user:@h", ("h", 6379), {"db": 0, "username": "user"}),
        ("redis://h/1?db=2&password=p", ("h", 6379), {"db": 2, "password": "p"}),
        ("rediss://u:p@h?ssl_cert_reqs=none", ("h", 6379), {"db": 0, "username": "u", "password": "p", "ssl": True}),
    ],
)
def test_redis_url_of_a_single_server_is_parsed(url, host, connection):
    parsed = parse(url)
    assert (parsed.kind, parsed.hosts, parsed.place) == ("single", (host,), {"host": host[0], "port": host[1]})
    assert {name: value for name, value in parsed.connection.items() if name != "ssl_cert_reqs"} == connection


def test_redis_url_of_a_socket_is_parsed():
    parsed = parse("unix://user:p@/run/my%20redis.sock?db=1")
    assert (parsed.kind, parsed.place) == ("single", {"path": "/run/my redis.sock"})
    assert parsed.connection == {"username": "user", "password": "p", "db": 1}


RESERVED = "s3cr#et:@[x], é&=+;~"


@pytest.mark.parametrize("form", ["redis://:{}@h:1/0", "redis+sentinel://:{}@h:1/m", "redis+cluster://:{}@h:1"])
@pytest.mark.parametrize("password", [RESERVED, quote("a/b?c%25#d@e", safe="")])
def test_every_form_of_redis_url_accepts_reserved_characters(form, password):
    """A password may have them as they are or percent-encoded."""
    parsed = parse(form.format(password))
    assert parsed.connection["password"] == unquote(password)
    assert parsed.hosts == (("h", 1),)


def test_options_of_a_redis_url_are_converted_to_their_types():
    options = "client_name=n&health_check_interval=5&socket_keepalive=yes&ssl_ca_certs=/a%40b&ssl_check_hostname=0"
    typed = {"client_name": "n", "health_check_interval": 5, "socket_keepalive": True, "ssl": True}
    typed.update(ssl_ca_certs="/a@b", ssl_check_hostname=False)
    for url in ("rediss://h", "rediss+cluster://h", "rediss+sentinel://h/m"):
        connection = dict(parse(f"{url}?{options}").connection)
        connection.pop("db", None)
        assert connection == typed, url


def test_redis_url_of_sentinels_is_parsed():
    parsed = parse("redis+sentinel://u%40x:p%3Aw@a:1,[::1]:2,c/my-master/3")
    assert (parsed.kind, parsed.service) == ("sentinel", "my-master")
    assert parsed.hosts == (("a", 1), ("::1", 2), ("c", 26379))
    assert parsed.connection == {"username": "u@x", "password": "p:w", "db": 3}
    assert parsed.sentinel == {}


def test_redis_url_of_sentinels_with_tls_and_password_is_parsed():
    """The Sentinels have another password than the servers."""
    parsed = parse("rediss+sentinel://:p@a:1/m?sentinel_password=s&ssl_ca_certs=/ca&ssl_check_hostname=true")
    tls = {"ssl": True, "ssl_ca_certs": "/ca", "ssl_check_hostname": True}
    assert parsed.connection == {"password": "p", "db": 0, **tls}
    assert parsed.sentinel == {"password": "s", **tls}


def test_redis_url_of_a_cluster_is_parsed():
    parsed = parse("redis+cluster://:p@a:1,b/")
    assert (parsed.kind, parsed.hosts, parsed.connection) == ("cluster", (("a", 1), ("b", 6379)), {"password": "p"})


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "http://hunter2@a:1",
        "redis+sentinel://:hunter2@a:1",
        "redis+sentinel://:hunter2@a:1/m/first",
        "redis+sentinel://:hunter2@/m",
        "redis+cluster://:hunter2@a:1/1",
        "redis+cluster://:hunter2@a:port",
        "redis+cluster://:hunter2@a:1,,b:2",
        "redis+cluster://a:1?password=hunter2",
        "redis+cluster://a:1?sentinel_password=hunter2",
        "redis://hunter2@a:1",
        "unix://hunter2@/run/redis.sock",
        "redis://a:1/hunter2",
        "redis://a:1/-1",
        "redis://a:1/²",
        "redis+sentinel://a:1/m/²",
        "redis://a:hunter2/0",
        "redis://a:0/0",
        "redis://a:65536/0",
        "redis://a:1,b:2/0",
        "redis://:hunter2",
        "redis://:p@a#hunter2:1",
        "redis://a:1?hunter2",
        "redis://a:1?db=hunter2",
        "redis://a:1?db=",
        "redis://a:1?db=1&db=2",
        "redis://a:1?password=",
        "rediss://a:1?ssl_cert_reqs=hunter2",
        "rediss://a:1?ssl_check_hostname=hunter2",
        "unix://hunter2/run/redis.sock",
        "unix://",
        "redis+unix:///run/redis.sock",
    ],
)
def test_wrong_redis_url_is_refused_without_repeating_it(url):
    with pytest.raises(SettingsError) as refused:
        RedisSettings.from_env({"REDIS_URL": url})
    assert refused.value.key == "REDIS_URL"
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None, "the cause's text would repeat the URL"


@pytest.mark.parametrize(
    "password", ["hunter2/x", "hunter2?x", "a@b/hunter2", "a@b?hunter2", "1/0?hunter2", "1?password=hunter2"]
)
@pytest.mark.parametrize(
    "form",
    ["redis://:{}@h:1/0", "rediss://u:{}@h", "unix://:{}@/s", "redis+sentinel://:{}@h:1/m", "redis+cluster://:{}@h:1"],
)
def test_unencoded_slash_or_question_mark_in_a_url_is_refused(form, password):
    with pytest.raises(SettingsError, match=r"REDIS_URL has an @ after a .*: percent-encode") as refused:
        parse(form.format(password))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("option", ["socket_timeout", "max_connections", "decode_responses", "ssl_min_version"])
def test_unsupported_options_of_redis_py_are_refused_by_name(option):
    with pytest.raises(SettingsError, match=f"has an option {option} that is not one of"):
        parse(f"rediss://h?{option}=1")


def test_option_of_another_form_of_url_is_refused():
    with pytest.raises(SettingsError, match="has an option db that is not one of"):
        parse("redis+cluster://h?db=1")
    with pytest.raises(SettingsError, match="has the option ssl_ca_certs without TLS: start with rediss"):
        parse("redis://h?ssl_ca_certs=/ca")


def test_repr_of_redis_settings_shows_no_password():
    url = "redis+sentinel://:hunter2@a:1/m?sentinel_password=hunter2"
    assert "hunter2" not in repr(parse(url)) + repr(RedisSettings.from_env({"REDIS_URL": url}))


# Source: Redis cluster specification, appendix A, and its example of CLUSTER KEYSLOT.
@pytest.mark.parametrize(("key", "slot"), [("123456789", 12739), ("foo", 12182), ("a{foo}b", 12182)])
def test_cluster_slots_equal_the_specifications_examples(key, slot):
    assert slot_of(key) == slot


def test_cluster_slot_is_that_of_the_first_hash_tag():
    """An empty hash tag does not count."""
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")
    assert slot_of("foo{}{bar}") != slot_of("bar")
