"""`python -m kefu topics` on a real broker: steps forward and back never change a topic that older processes use."""

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
    """Settings with a new topic prefix, under which no topic exists, and a new consumer group."""
    name = uuid.uuid4().hex[:8]
    return KafkaSettings(brokers=kafka.brokers, topic_prefix=f"t{name}.", group=f"g{name}", partitions=2)


@pytest.fixture
def command(fresh, monkeypatch, capsys):
    """Runs the command; returns its exit code and its output."""
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
    """Wait until the broker shows these numbers of partitions: it learns of new and removed topics a moment later."""
    until(lambda: counts.items() <= counted(settings).items(), f"partitions: {counts}")


def produce(settings, topic, records):
    producer = Producer({"bootstrap.servers": settings.brokers})
    for number in range(records):
        producer.produce(settings.topic_prefix + topic, b"x", str(number).encode())
    assert producer.flush(60) == 0


def read(settings, topic, group, records):
    """Read and commit this many records, then leave the group."""
    config = {"bootstrap.servers": settings.brokers, "group.id": group, "auto.offset.reset": "earliest"}
    with closing(Consumer({**config, "enable.auto.commit": False})) as consumer:
        consumer.subscribe([settings.topic_prefix + topic])
        count = 0
        while count < records:
            message = consumer.poll(60)
            assert message is not None and message.error() is None
            count += 1
        consumer.commit(asynchronous=False)


def test_every_topic_belongs_to_one_step():
    """A step is the set of topics that a release of Kefu adds."""
    listed = [topic for step in topics.STEPS for topic in step.topics]
    assert sorted(listed) == sorted(TOPICS)


def test_step_forward_creates_missing_topics_only(command, fresh):
    assert command("--to", "1")[0] == 0
    wait_for(fresh, {CANDIDATE_QUERY: 0, USER_QUERY: 2})
    produce(fresh, USER_QUERY, 5)
    code, output = command()
    assert code == 0 and f"{CANDIDATE_QUERY}: created" in output and f"{USER_QUERY}: exists" in output
    assert lag(fresh) == 5


def test_step_back_removes_later_topics_and_forward_restores_them(command, fresh):
    command()
    wait_for(fresh, BOTH)
    produce(fresh, USER_QUERY, 5)
    assert command("--to", "1") == (
        0,
        "\n".join([*_exists(fresh, 1), f"{fresh.topic_prefix}{CANDIDATE_QUERY}: removed", ""]),
    )
    wait_for(fresh, {CANDIDATE_QUERY: 0})
    assert lag(fresh) == 5
    assert command("--to", "1") == (0, "\n".join([*_exists(fresh, 1), ""]))  # the second call removes nothing
    assert f"{CANDIDATE_QUERY}: created" in command()[1]


def test_step_back_is_refused_while_messages_wait(command, fresh):
    command()
    wait_for(fresh, BOTH)
    produce(fresh, CANDIDATE_QUERY, 3)
    code, output = command("--to", "1")
    assert code == 1 and "3 messages wait" in output and counted(fresh)[CANDIDATE_QUERY] == 2
    read(fresh, CANDIDATE_QUERY, fresh.candidate_group, 3)
    assert command("--to", "1")[0] == 0
    wait_for(fresh, {CANDIDATE_QUERY: 0})


def test_step_back_is_refused_while_a_consumer_reads(command, fresh):
    command()
    wait_for(fresh, BOTH)
    config = {"bootstrap.servers": fresh.brokers, "group.id": fresh.candidate_group}
    with closing(Consumer(config)) as reader:
        reader.subscribe([fresh.topic_prefix + CANDIDATE_QUERY])
        while not reader.assignment():
            reader.poll(0.1)
        code, output = command("--to", "1")
        assert code == 1 and "workers read" in output
    assert command("--to", "1")[0] == 0


@pytest.mark.parametrize("code", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])
def test_query_of_group_members_is_repeated_on_a_moving_coordinator(fresh, monkeypatch, code):
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
def test_members_of_both_group_protocols_are_counted(command, fresh, protocol):
    """kafka-python reports a group of the new protocol as dead: a step back would remove topics that it reads."""
    command()
    config = {"bootstrap.servers": fresh.brokers, "group.id": fresh.group, "group.protocol": protocol}
    with closing(Consumer(config)) as reader:
        reader.subscribe([fresh.topic_prefix + USER_QUERY])
        until(lambda: reader.poll(0.1) or reader.assignment(), "assigned")
        assert members(fresh, fresh.group) == 1


@pytest.mark.parametrize("error", [NotLeaderForPartitionError, LeaderNotAvailableError])
def test_query_of_the_lag_is_repeated_while_a_leader_is_missing(command, fresh, monkeypatch, error):
    command()
    wait_for(fresh, BOTH)
    failures, offsets = [error()], KafkaAdminClient.list_partition_offsets

    def leaderless(*asked):
        if failures:
            raise failures.pop()
        return offsets(*asked)

    monkeypatch.setattr(KafkaAdminClient, "list_partition_offsets", leaderless)
    assert lag(fresh) == 0 and failures == []


def test_permanent_kafka_error_is_raised_without_a_retry(fresh):
    asked = []

    def refused():
        asked.append(1)
        raise TopicAuthorizationFailedError("user.query")

    with pytest.raises(QueueUnavailable, match=r"user\.query: TOPIC_AUTHORIZATION_FAILED"):
        clients.asked(refused, "user.query")
    assert len(asked) == 1


def test_topics_command_reports_an_unreachable_broker(command, fresh, monkeypatch):
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    with pytest.raises(QueueUnavailable, match=r"KAFKA_BROKERS names 127.0.0.1:1, where no broker answers"):
        command()


def test_step_back_keeps_added_partitions(command, fresh):
    command("--to", "1")
    add(fresh, USER_QUERY, 4)
    code, output = command("--to", "1")
    assert code == 0 and f"{USER_QUERY}: exists" in output
    wait_for(fresh, {USER_QUERY: 4})


def _exists(settings, step):
    names = {topic for each in topics.STEPS[:step] for topic in each.topics}
    return [f"{settings.topic_prefix}{topic}: exists" for topic in TOPICS if topic in names]
