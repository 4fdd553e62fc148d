"""`python -m kefu tenants` on a real Kafka: counts the inbox's records within a time and a number of records."""

import asyncio

import pytest

from kefu.events import USER_QUERY, now_ms
from kefu.kafka import EventProducer
from kefu.tools import tenants

FLOOD = {"acme:bot": 30, "acme:li": 2, "demo:alice": 5, "demo:bob": 3}
SECRET = b"the parcel for aunt Mei"
HOUR_MS = 3_600_000


@pytest.fixture
def inbox(kafka_settings, monkeypatch, capsys):
    """Runs the command on an inbox with the records of FLOOD; returns exit code, lines of stdout, and stderr."""
    asyncio.run(written(kafka_settings))
    monkeypatch.setenv("KAFKA_BROKERS", kafka_settings.brokers)
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", kafka_settings.topic_prefix)
    monkeypatch.setenv("KEFU_CONSUMER_GROUP", kafka_settings.group)

    def run(*words):
        code = tenants.main(list(words))
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


async def written(settings):
    producer = EventProducer(settings)
    try:
        sent = (producer.send(USER_QUERY, key, SECRET) for key, number in FLOOD.items() for _ in range(number))
        await asyncio.gather(*sent)
    finally:
        producer.close()


def test_tenants_command_lists_the_busiest_first_with_shares(inbox):
    code, lines, error = inbox()
    assert (code, error) == (0, "")
    assert [line.split() for line in lines] == [
        ["RECORDS", "SHARE", "CUSTOMERS", "TENANT"],
        ["32", "80.0%", "2", "acme"],
        ["8", "20.0%", "2", "demo"],
    ]


def test_tenants_command_lists_customers_without_any_text(inbox):
    _, lines, _ = inbox("--customers", "--limit", "2")
    assert [line.split() for line in lines[1:]] == [["30", "75.0%", "acme:bot"], ["5", "12.5%", "demo:alice"]]
    assert SECRET.decode() not in "".join(lines)


def test_records_older_than_since_are_not_counted(inbox, kafka_settings):
    _, lines, error = inbox("--since", "2999-01-01")
    assert (len(lines), error) == (1, "")
    assert tenants.count(kafka_settings, now_ms() - HOUR_MS)[0] == FLOOD


def test_option_most_limits_the_counted_records(inbox, kafka_settings):
    found, cut = tenants.count(kafka_settings, 0, most=8)
    assert cut and all(number <= 1 for number in found.values()) and found.total() <= 8
    assert "--most counts more" in inbox("--most", "8")[2]


def test_tenants_command_reports_a_missing_topic(kafka_settings, monkeypatch, capsys):
    monkeypatch.setenv("KAFKA_BROKERS", kafka_settings.brokers)
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", "nobody.")
    assert tenants.main([]) == 1
    assert "UNKNOWN_TOPIC" in capsys.readouterr().err
