"""Three brokers with the production file: TLS, SCRAM and ACLs refuse others, and a broker's death loses no record."""

import asyncio
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AclBinding, AdminClient, ConfigResource
from confluent_kafka.admin import AclOperation as Operation
from confluent_kafka.admin import AclPermissionType as Permission
from confluent_kafka.admin import ResourcePatternType as Pattern
from confluent_kafka.admin import ResourceType as Kind

from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, AUDIT, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, TOPICS, USER_QUERY
from kefu.kafka import EventProducer, create_topics
from kefu.tools import acls, groups, partitions, tenants
from kefu.tools.backup import topics as backup
from kefu.tools.backup.topics import SAVED
from tests.integration.secure_kafka import SecureCluster
from tests.waiting import eventually, until

pytestmark = pytest.mark.timeout(900)
PRINCIPALS = {role: f"kefu-{role}" for role in ("gateway", "worker", "operator", "backup", "scaler")}
WAIT_S = 60.0
REFUSED_S = 4.0
ANYBODYS = "look"  # a group that every user may use, so that a refusal is for the topic


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    brokers = SecureCluster(tmp_path_factory.mktemp("secure"))
    try:
        brokers.start()
        admin = brokers.settings("kefu-topics")
        create_topics(admin)
        acls.grant(admin, PRINCIPALS)
        anybody = AclBinding(Kind.GROUP, ANYBODYS, Pattern.LITERAL, "User:*", "*", Operation.READ, Permission.ALLOW)
        client = AdminClient(admin.client_config())
        client.create_acls([anybody])[anybody].result(WAIT_S)
        for broker in brokers.servers:
            asyncio.run(known_to(broker, brokers.settings("kefu-worker")))
        yield brokers
    finally:
        for broker in brokers.servers:  # in an orderly stop the last brokers wait 25 s for the others
            broker.kill()


async def written(settings, topic, count=1, timeout_s=WAIT_S):
    """Write `count` records; return their values once all are acknowledged."""
    producer = EventProducer(settings, timeout_s=timeout_s)
    try:
        values = [f"{number}".encode() for number in range(count)]
        await asyncio.gather(*(producer.send(topic, f"demo:u{n}", value) for n, value in enumerate(values)))
        return values
    finally:
        await asyncio.to_thread(producer.close, 1.0)


async def known_to(broker, settings):
    """Wait until a broker knows the rights."""
    alone = replace(settings, brokers=broker.brokers)
    await eventually(lambda: may_write(alone, ANSWERS), f"{broker.name} to allow what was granted")


async def may_write(settings, topic):
    """Return whether a record was written; a failure must be a missing right, not a timeout."""
    try:
        return bool(await written(settings, topic))
    except QueueUnavailable as error:
        assert any(word in str(error) for word in ("AUTHORIZATION", "FATAL", "PURGE")), error
        return False


def read(settings, topic, group=""):
    """Return all values of a topic; raises KafkaException if reading is refused."""
    consumer = Consumer({**settings.client_config(), "group.id": group or settings.group, "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, WAIT_S).topics[topic]
        if partitions.error is not None:
            raise KafkaException(partitions.error)
        values = []
        for number in partitions.partitions:
            place = TopicPartition(topic, number)
            low, high = consumer.get_watermark_offsets(place, WAIT_S)
            place.offset = low
            consumer.assign([place])
            while place.offset < high:
                record = consumer.poll(WAIT_S)
                if record is None or record.error() is not None:
                    raise KafkaException(record.error() if record else "nothing came")
                values.append(record.value())
                place.offset = record.offset() + 1
        return values
    finally:
        consumer.close()


def may_read(settings, topic):
    try:
        read(settings, topic, ANYBODYS)
    except KafkaException as error:
        assert error.args[0].name() == "TOPIC_AUTHORIZATION_FAILED", error
        return False
    return True


def reaches(settings, within_s=REFUSED_S):
    try:
        AdminClient(settings.client_config()).list_topics(timeout=within_s)
    except KafkaException:
        return False
    return True


async def test_each_kafka_user_may_write_only_its_topics(cluster):
    """The ACLs of `kefu.tools.acls` are granted. A stranger may write nothing."""
    writes = {
        "kefu-gateway": {USER_QUERY, AUDIT},
        "kefu-worker": {USER_QUERY, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, ANSWERS},
        "kefu-operator": {USER_QUERY, DEAD_LETTERS, AUDIT},
        "kefu-backup": set(SAVED),
        "kefu-scaler": set(),
        "stranger": set(),
    }
    writable = {}
    for user in writes:  # user by user: three dozen TLS clients at once would only wait for the cores
        allowed = await asyncio.gather(*(may_write(cluster.settings(user), topic) for topic in TOPICS))
        writable[user] = {topic for topic, may in zip(TOPICS, allowed, strict=True) if may}
    assert writable == writes


def test_each_kafka_user_may_read_only_its_topics(cluster):
    """The ACLs of `kefu.tools.acls` are granted. A stranger may read nothing."""
    reads = {
        "kefu-gateway": set(),
        "kefu-worker": {USER_QUERY, CANDIDATE_QUERY, DIALOGUE_EVENTS, ANSWERS},
        "kefu-operator": {DEAD_LETTERS, USER_QUERY},
        "kefu-backup": set(SAVED),
        "kefu-scaler": set(),
        "stranger": set(),
    }
    # An empty topic proves nothing, so the brokers' super user writes a record to each topic.
    asyncio.run(_one_in_each(cluster))
    readable = {user: {t for t in TOPICS if may_read(cluster.settings(user), t)} for user in reads}
    assert readable == reads


def test_operators_rights_suffice_for_the_tenants_command(cluster):
    asyncio.run(_one_in_each(cluster))
    found, _ = tenants.count(cluster.settings("kefu-operator"), 0)
    assert found["demo:u0"] >= 1


def test_operators_rights_suffice_to_add_partitions(cluster):
    """The operator's rights don't suffice to delete a topic."""
    admin, own = (replace(cluster.settings(user), topic_prefix="wide.") for user in ("kefu-topics", "kefu-operator"))
    create_topics(admin)
    acls.grant(admin, {"operator": "kefu-operator"})
    for broker in cluster.servers:
        _wait_until_seen(replace(own, brokers=broker.brokers), [own.topic_prefix + topic for topic in partitions.ORDER])
    before = partitions.counted(own)
    assert groups.lag(own) == 0
    for topic in partitions.ORDER:
        partitions.add(own, topic, before[topic] + 1)
    until(lambda: partitions.counted(own) == {topic: count + 1 for topic, count in before.items()})
    client = AdminClient(own.client_config())
    with pytest.raises(KafkaException, match="AUTHORIZATION"):
        client.delete_topics(["wide." + ANSWERS])["wide." + ANSWERS].result(WAIT_S)


def test_the_backup_users_rights_suffice_to_save_and_restore(cluster, tmp_path):
    asyncio.run(_one_in_each(cluster))
    saved = backup.save(cluster.settings("kefu-backup"), tmp_path / "backup", lambda _: None)
    assert all(saved[topic] for topic in SAVED)
    elsewhere = {"topic_prefix": "again.", "group": "again"}
    admin, own = (replace(cluster.settings(user), **elsewhere) for user in ("kefu-topics", "kefu-backup"))
    create_topics(admin)
    acls.grant(admin, {"backup": "kefu-backup"})
    for broker in cluster.servers:
        _wait_until_seen(replace(own, brokers=broker.brokers), [own.topic_prefix + topic for topic in SAVED])
    assert backup.restore(own, tmp_path / "backup", lambda _: None) == saved


def _wait_until_seen(settings, topics):
    """Wait until a broker shows all these topics to this user."""
    client = AdminClient(settings.client_config())
    until(
        lambda: not any(client.list_topics(topic, WAIT_S).topics[topic].error for topic in topics),
        f"the topics at {settings.brokers}",
    )


async def _one_in_each(cluster):
    for topic in TOPICS:
        await written(cluster.settings("kefu-topics"), topic)


def test_brokers_refuse_clients_without_password_or_tls(cluster):
    assert reaches(cluster.settings("kefu-gateway"), WAIT_S)
    assert not reaches(cluster.settings("kefu-gateway", password="wrong"))
    assert not reaches(cluster.settings("kefu-gateway", protocol="SASL_PLAINTEXT"))
    assert not reaches(cluster.settings("kefu-gateway", protocol="SSL"))
    assert not reaches(cluster.settings("kefu-gateway", protocol="PLAINTEXT"))


def test_a_client_refuses_brokers_of_another_authority(cluster):
    assert not reaches(cluster.settings("kefu-gateway", authority="other.pem"))


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"password": "wrong"}, "KAFKA_SASL_PASSWORD"),
        ({"authority": "other.pem"}, "KAFKA_CA_FILE"),
        ({"authority": "missing.pem"}, "KAFKA_CA_FILE"),
        ({"protocol": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_tool_refused_by_the_brokers_names_the_wrong_setting(cluster, wrong, setting):
    with pytest.raises(QueueUnavailable, match=setting):
        tenants.count(cluster.settings("kefu-operator", **wrong), 0)


def test_the_brokers_own_listener_requires_a_certificate(cluster):
    brokers = ",".join(f"127.0.0.1:{server.broker_port}" for server in cluster.servers)
    config = {**cluster.settings("kefu-gateway", protocol="SSL").client_config(), "bootstrap.servers": brokers}
    with pytest.raises(KafkaException):
        AdminClient(config).list_topics(timeout=REFUSED_S)


def test_topics_have_three_replicas_and_two_must_be_in_sync(cluster):
    admin = AdminClient(cluster.settings("kefu-topics").client_config())
    topics = admin.list_topics(timeout=WAIT_S).topics
    assert {len(place.replicas) for name in TOPICS for place in topics[name].partitions.values()} == {3}
    for resource in admin.describe_configs([ConfigResource(Kind.TOPIC, name) for name in TOPICS]).values():
        settings = resource.result(WAIT_S)
        assert settings["min.insync.replicas"].value == "2"
        assert settings["unclean.leader.election.enable"].value == "false"


def test_acls_can_be_granted_twice(cluster):
    settings = cluster.settings("kefu-topics")
    assert acls.grant(settings, {"gateway": "kefu-gateway"}) == 2
    assert acls.grant(settings, {"gateway": "kefu-gateway"}) == 2
    assert acls.grant(settings, {}) == 0


def test_user_without_alter_can_not_grant_acls(cluster):
    with pytest.raises(QueueUnavailable, match="AUTHORIZATION"):
        acls.grant(cluster.settings("stranger"), {"gateway": "stranger"})


async def test_acknowledged_records_survive_a_brokers_death(cluster):
    settings = cluster.settings("kefu-gateway")
    before = len(read(cluster.settings("kefu-worker"), USER_QUERY))
    sending = asyncio.create_task(written(settings, USER_QUERY, 3000))
    await asyncio.sleep(0)
    await asyncio.to_thread(cluster.servers[2].kill)
    acknowledged = await sending
    acknowledged += await written(settings, USER_QUERY, 500)
    records = await asyncio.to_thread(read, cluster.settings("kefu-worker"), USER_QUERY)
    assert len(records) - before >= len(acknowledged) == 3500
