"""Fixtures of real servers, started once a session on free ports."""

import os
import uuid
from dataclasses import replace

import pytest

from kefu.kafka import create_topics
from kefu.settings import KafkaSettings, RedisSettings
from ops.local.servers import KafkaServer, RedisServer, free_port

# Switch Java's second compiler off: a test's broker lives for a minute or two, and in that time the compiler costs more
# than it gains. To format, start, create the topics and stop takes 13 s of CPU with it and 8 s without.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """A real Kafka. It is killed at the end: an orderly stop takes seconds, and its data are not needed."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"), free_port())
    server.start()
    server.wait_ready()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A real Redis-protocol server."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), free_port())
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture
def kafka_settings(kafka):
    """Settings of Kafka with topics for this test only."""
    settings = KafkaSettings(brokers=kafka.brokers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    create_topics(settings)
    return replace(settings, group=f"g{uuid.uuid4().hex[:8]}")


@pytest.fixture
def redis_settings(redis_server):
    """Settings of Redis with a key prefix for this test only."""
    return RedisSettings(url=redis_server.url, key_prefix=f"t{uuid.uuid4().hex[:8]}")
