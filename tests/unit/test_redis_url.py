"""One URL chooses a single server, Sentinels or a cluster; a wrong one stops the start and shows no password."""

import pytest

from kefu.errors import SettingsError
from kefu.redis_cluster import slot_of
from kefu.redis_url import parse
from kefu.settings import RedisSettings


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://u:p@h", "unix:///run/redis.sock?db=1"])
def test_a_single_server_is_left_to_the_client(url):
    assert parse(url).kind == "single"


def test_sentinels_with_user_password_service_and_database():
    found = parse("redis+sentinel://u%40x:p%3Aw@a:1,[::1]:2,c/my-master/3")
    assert (found.kind, found.service) == ("sentinel", "my-master")
    assert found.hosts == (("a", 1), ("::1", 2), ("c", 26379))
    assert found.connection == {"username": "u@x", "password": "p:w", "db": 3}
    assert found.sentinel == {}


def test_sentinels_with_a_password_of_their_own_and_tls():
    found = parse("rediss+sentinel://:p@a:1/m?sentinel_password=s&ssl_ca_certs=/ca&ssl_check_hostname=true")
    tls = {"ssl": True, "ssl_ca_certs": "/ca", "ssl_check_hostname": True}
    assert found.connection == {"password": "p", "db": 0, **tls}
    assert found.sentinel == {"password": "s", **tls}


def test_a_cluster():
    found = parse("redis+cluster://:p@a:1,b/")
    assert (found.kind, found.hosts, found.connection) == ("cluster", (("a", 1), ("b", 6379)), {"password": "p"})


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
    ],
)
def test_a_wrong_url_stops_the_start_and_shows_nothing_of_itself(url):
    with pytest.raises(SettingsError) as refused:
        RedisSettings.from_env({"REDIS_URL": url})
    assert refused.value.key == "REDIS_URL"
    assert "hunter2" not in str(refused.value)


def test_no_password_is_shown():
    url = "redis+sentinel://:hunter2@a:1/m?sentinel_password=hunter2"
    assert "hunter2" not in repr(parse(url)) + repr(RedisSettings.from_env({"REDIS_URL": url}))


# Source: Redis cluster specification, appendix A, and its example of CLUSTER KEYSLOT.
@pytest.mark.parametrize(("key", "slot"), [("123456789", 12739), ("foo", 12182), ("a{foo}b", 12182)])
def test_keys_have_the_slot_that_the_specification_gives(key, slot):
    assert slot_of(key) == slot


def test_only_the_first_tag_that_is_not_empty_counts():
    assert slot_of("{user1000}.following") == slot_of("{user1000}.followers")
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")
    assert slot_of("foo{bar}{zap}") == slot_of("bar")
    assert slot_of("foo{}{bar}") != slot_of("bar")
