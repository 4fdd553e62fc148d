"""Topics go forward and back by steps, on a real broker, and what older processes use is never touched."""

import uuid
from concurrent.futures import Future
from contextlib import closing

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient
from kafka.errors import LeaderNotAvailableError, NotLeaderForPartitionError, TopicAuthorizationFailedError

from kefu.errors import QueueUnavailable
from kefu.events import CANDIDATE_QUERY, TOPICS, USER_QUERY
from kefu.settings import KafkaSettings
from kefu.tools import clients, groups, topics
from kefu.tools.groups import lag, members
from kefu.tools.partitions import add, counted
from tests.waiting import until

BOTH = {USER_QUERY: 2, CANDIDATE_QUERY: 2}


@pytest.fixture
def fresh(kafka):
    """A broker's corner without any topic, and who reads there."""
    name = uuid.uuid4().hex[:8]
    return KafkaSettings(brokers=kafka.brokers, topic_prefix=f"t{name}.", group=f"g{name}", partitions=2)


@pytest.fixture
def command(fresh, monkeypatch, capsys):
    """Gives the command, and returns its exit code and what it said."""
    monkeypatch.setenv("KAFKA_BROKERS", fresh.brokers)
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", fresh.topic_prefix)
    monkeypatch.setenv("KEFU_CONSUMER_GROUP", fresh.group)
    monkeypatch.setenv("KEFU_TOPIC_PARTITIONS", "2")

    def run(*words):
        code = topics.main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def wait_for(settings, counts):
    """Wait until the broker tells of so many partitions: it hears of what was made or removed a moment later."""
    until(lambda: counts.items() <= counted(settings).items(), f"partitions: {counts}")


def produce(settings, topic, records):
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number in range(records):
        producer.produce(settings.topic_prefix + topic, b"x", str(number).encode())
    assert producer.flush(60) == 0


def read(settings, topic, group, records):
    """Read and commit so many records, and leave the group."""
    config = {"bootstrap.servers": settings.brokers, "group.id": group, "auto.offset.reset": "earliest"}
    with closing(Consumer({**config, "enable.auto.commit": False})) as consumer:
        consumer.subscribe([settings.topic_prefix + topic])
        taken = 0
        while taken < records:
            message = consumer.poll(60)
            assert message is not None and message.error() is None
            taken += 1
        consumer.commit(asynchronous=False)


def test_every_topic_belongs_to_one_step():
    listed = [topic for step in topics.STEPS for topic in step.topics]
    assert sorted(listed) == sorted(TOPICS)


def test_forward_makes_what_is_missing_and_leaves_what_is_there(command, fresh):
    assert command("--to", "1")[0] == 0
    wait_for(fresh, {CANDIDATE_QUERY: 0, USER_QUERY: 2})
    produce(fresh, USER_QUERY, 5)
    code, said = command()
    assert code == 0 and f"{CANDIDATE_QUERY}: created" in said and f"{USER_QUERY}: exists" in said
    assert lag(fresh) == 5


def test_back_removes_what_the_older_release_does_not_know_and_forward_makes_it_again(command, fresh):
    command()
    wait_for(fresh, BOTH)
    produce(fresh, USER_QUERY, 5)
    assert command("--to", "1") == (
        0,
        "\n".join([*_exists(fresh, 1), f"{fresh.topic_prefix}{CANDIDATE_QUERY}: removed", ""]),
    )
    wait_for(fresh, {CANDIDATE_QUERY: 0})
    assert lag(fresh) == 5
    assert command("--to", "1") == (0, "\n".join([*_exists(fresh, 1), ""]))  # again: nothing left to do
    assert f"{CANDIDATE_QUERY}: created" in command()[1]


def test_back_is_refused_while_messages_wait_and_done_after_they_were_read(command, fresh):
    command()
    wait_for(fresh, BOTH)
    produce(fresh, CANDIDATE_QUERY, 3)
    code, said = command("--to", "1")
    assert code == 1 and "3 messages wait" in said and counted(fresh)[CANDIDATE_QUERY] == 2
    read(fresh, CANDIDATE_QUERY, fresh.candidate_group, 3)
    assert command("--to", "1")[0] == 0
    wait_for(fresh, {CANDIDATE_QUERY: 0})


def test_back_is_refused_while_somebody_reads(command, fresh):
    command()
    wait_for(fresh, BOTH)
    config = {"bootstrap.servers": fresh.brokers, "group.id": fresh.candidate_group}
    with closing(Consumer(config)) as reader:
        reader.subscribe([fresh.topic_prefix + CANDIDATE_QUERY])
        while not reader.assignment():
            reader.poll(0.1)
        code, said = command("--to", "1")
        assert code == 1 and "workers read" in said
    assert command("--to", "1")[0] == 0


@pytest.mark.parametrize("code", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])
def test_a_group_whose_coordinator_moves_is_asked_for_again(fresh, monkeypatch, code):
    asked = []

    class Moving(AdminClient):
        def describe_consumer_groups(self, names, **options):
            asked.append(names)
            if len(asked) > 1:
                return super().describe_consumer_groups(names, **options)
            answer = Future()
            answer.set_exception(KafkaException(KafkaError(code)))
            return dict.fromkeys(names, answer)

    monkeypatch.setattr(groups, "AdminClient", Moving)
    assert members(fresh, fresh.candidate_group) == 0
    assert len(asked) == 2


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_are_counted_whatever_protocol_they_speak(command, fresh, protocol):
    """kafka-python would call a group of the new protocol dead, and topics would go from under it."""
    command()
    config = {"bootstrap.servers": fresh.brokers, "group.id": fresh.group, "group.protocol": protocol}
    with closing(Consumer(config)) as reader:
        reader.subscribe([fresh.topic_prefix + USER_QUERY])
        until(lambda: reader.poll(0.1) or reader.assignment(), "assigned")
        assert members(fresh, fresh.group) == 1


@pytest.mark.parametrize("error", [NotLeaderForPartitionError, LeaderNotAvailableError])
def test_a_lag_is_asked_for_again_while_a_partition_has_no_leader(command, fresh, monkeypatch, error):
    command()
    wait_for(fresh, BOTH)
    failures, offsets = [error()], KafkaAdminClient.list_partition_offsets

    def leaderless(*asked):
        if failures:
            raise failures.pop()
        return offsets(*asked)

    monkeypatch.setattr(KafkaAdminClient, "list_partition_offsets", leaderless)
    assert lag(fresh) == 0 and failures == []


def test_an_error_that_does_not_pass_is_told_at_once(fresh):
    asked = []

    def refused():
        asked.append(1)
        raise TopicAuthorizationFailedError("user.query")

    with pytest.raises(QueueUnavailable, match=r"user\.query: TOPIC_AUTHORIZATION_FAILED"):
        clients.asked(refused, "user.query")
    assert len(asked) == 1


def test_a_broker_that_is_away_is_told_with_its_setting(command, fresh, monkeypatch):
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    with pytest.raises(QueueUnavailable, match=r"KAFKA_BROKERS names 127.0.0.1:1, where no broker answers"):
        command()


def test_an_older_release_goes_on_with_more_partitions(command, fresh):
    command("--to", "1")
    add(fresh, USER_QUERY, 4)
    code, said = command("--to", "1")
    assert code == 0 and f"{USER_QUERY}: exists" in said
    wait_for(fresh, {USER_QUERY: 4})


def _exists(settings, step):
    names = {topic for each in topics.STEPS[:step] for topic in each.topics}
    return [f"{settings.topic_prefix}{topic}: exists" for topic in TOPICS if topic in names]
