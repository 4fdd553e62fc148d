"""`python -m kefu dlq` on a real Kafka: its output, and that no letter is handled twice."""

import asyncio
import json
import subprocess
import threading
import time
import uuid
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, TopicPartition

from kefu.codec import decode, decode_inbox, encode
from kefu.errors import QueueUnavailable, SettingsError
from kefu.events import AUDIT, DEAD_LETTERS, USER_QUERY, AuditEntry, ReminderDue, SessionIdled, UserSaid, now_ms
from kefu.headers import ATTEMPTS, ERROR_CLASS, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC, REPLAY_OF
from kefu.kafka import EventProducer, create_topics
from kefu.tools.dlq import command, handling
from kefu.tools.dlq.handling import Handler
from ops.local.servers import ROOT, services_python

LOGIN_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
SECRET = "the parcel for aunt Mei"


@pytest.fixture
def dlq(kafka_settings, monkeypatch, capsys):
    """Runs a command; returns its exit code, lines of stdout, and stderr."""
    for name, value in environment(kafka_settings).items():
        monkeypatch.setenv(name, value)

    def run(*words):
        try:
            code = command.main(list(words))
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


def environment(settings):
    return {
        "KAFKA_BROKERS": settings.brokers,
        "KEFU_TOPIC_PREFIX": settings.topic_prefix,
        "KEFU_CONSUMER_GROUP": settings.group,
        "KEFU_OPERATOR": "li.wei",
    }


def message(user="alice", message_id="m1", text=SECRET):
    return UserSaid("demo", user, message_id, text=text, identified=True, channel="rest")


def letter(said, error_class="ValueError", offset=7, attempts=3):
    headers = [("traceparent", b"00-trace"), (ERROR_CLASS, error_class.encode()), (ATTEMPTS, b"%d" % attempts)]
    headers += [(ORIGIN_TOPIC, b"user.query"), (ORIGIN_PARTITION, b"1"), (ORIGIN_OFFSET, b"%d" % offset)]
    if isinstance(said, bytes):
        return DEAD_LETTERS, b"demo:nobody", said, headers
    return DEAD_LETTERS, said.conversation, encode(said), headers


def put(settings, *records):
    """Write records to their topics."""

    async def send():
        await asyncio.gather(*(producer.send(*record) for record in records))

    producer = EventProducer(settings)
    asyncio.run(send())
    producer.close()


def records_on(settings, topic):
    """Return every record of a topic, by partition."""
    consumer = Consumer({"bootstrap.servers": settings.brokers, "group.id": uuid.uuid4().hex})
    name = settings.topic_prefix + topic
    partitions = [TopicPartition(name, number, 0) for number in consumer.list_topics(name).topics[name].partitions]
    left = sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)
    consumer.assign(partitions)
    records, deadline = [], time.monotonic() + 60
    while len(records) < left:
        assert time.monotonic() < deadline, f"{topic} is not read within a minute"
        records += consumer.consume(500, 0.5)
    consumer.close()
    return records


def listed(dlq, *words):
    code, lines, errors = dlq("list", "--json", *words)
    assert code == 0, errors
    return [json.loads(line) for line in lines]


def test_dlq_list_shows_everything_except_the_text(dlq, kafka_settings):
    put(kafka_settings, letter(message()), letter(message("bob", "m2"), "KeyError", 8))
    code, lines, errors = dlq("list")
    assert (code, len(lines)) == (0, 3)
    assert "2 letters" in errors
    assert SECRET not in "\n".join(lines) + errors
    alice = next(each for each in listed(dlq) if each["conversation"] == "demo:alice")
    assert (alice["error_class"], alice["attempts"], alice["message_id"]) == ("ValueError", 3, "m1")
    assert alice["origin"] == {"topic": "user.query", "partition": "1", "offset": "7"}
    assert (alice["state"], alice["trace"]) == ("open", "00-trace")


def test_dlq_list_filters_by_error_class_time_and_conversation(dlq, kafka_settings):
    put(kafka_settings, letter(message()))
    time.sleep(0.005)
    between = now_ms()
    time.sleep(0.005)
    put(kafka_settings, letter(message("bob", "m2"), "KeyError", 8))
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between / 1000)) + f".{between % 1000:03d}+00:00"

    def names(*words):
        return {each["conversation"] for each in listed(dlq, *words)}

    assert names("--error-class", "KeyError") == {"demo:bob"}
    assert names("--since", moment) == {"demo:bob"}
    assert names("--until", moment) == {"demo:alice"}
    assert names("--conversation", "demo:alice") == {"demo:alice"}
    assert names("--tenant", "other") == set()
    assert names("--since", "1h") == {"demo:alice", "demo:bob"}
    assert len(listed(dlq, "--limit", "1")) == 1


def test_dlq_show_prints_headers_and_masked_value(dlq, kafka_settings):
    unreadable = letter(b"not json, call 13800001234", offset=8)
    put(kafka_settings, letter(message(text=f"{SECRET}, call 13800001234")), unreadable)
    places = [each["position"] for each in listed(dlq)]
    code, lines, _ = dlq("show", "--json", *places)
    assert code == 0
    shown = {each["message_id"]: each for each in map(json.loads, lines)}
    assert shown["m1"]["value"]["text"] == f"{SECRET}, call *******1234"
    assert shown["m1"]["headers"][ERROR_CLASS] == "ValueError"
    assert shown[None]["value"] == "not json, call *******1234"
    code, _, errors = dlq("show", "0:99999", "7999:1")
    assert code == 1 and errors.count("no dead letter there") == 2


def test_replayed_letter_is_sent_once_as_a_new_message(dlq, kafka_settings):
    before = now_ms()
    original = message()
    put(kafka_settings, letter(original))
    place = listed(dlq)[0]["position"]
    code, lines, _ = dlq("replay", "--yes", "--json", "--note", "call 13800001234 back", place)
    assert code == 0
    message_id = json.loads(lines[0])["message_id"]
    assert dlq("replay", "--yes", place)[0] == 1
    assert "was replayed by li.wei already" in dlq("replay", "--yes", place)[2]

    (sent,) = records_on(kafka_settings, USER_QUERY)
    again = decode(sent.value(), UserSaid)
    assert sent.key() == b"demo:alice"
    assert (again.message_id, again.text, again.identified) == (message_id, SECRET, True)
    assert again.id not in (original.id, "") and again.ts >= before
    names = [name for name, _ in sent.headers()]
    assert ERROR_CLASS not in names and REPLAY_OF in names and "traceparent" in names

    (entry,) = [decode(record.value(), AuditEntry) for record in records_on(kafka_settings, AUDIT)]
    assert (entry.actor, entry.action, entry.user) == ("li.wei", "dead_letter.replay", "alice")
    assert entry.details["message_id"] == message_id and entry.details["note"] == "call *******1234 back"
    assert listed(dlq) == []
    (known,) = listed(dlq, "--all")
    assert (known["state"], known["handled"]["by"], known["handled"]["attempt"]) == ("replayed", "li.wei", 1)


def test_dlq_replay_again_sends_the_letter_under_a_new_id(dlq, kafka_settings):
    put(kafka_settings, letter(message()))
    place = listed(dlq)[0]["position"]
    assert [dlq("replay", "--yes", *again, place)[0] for again in ((), ("--again",), ("--again",))] == [0, 0, 0]
    ids = [decode(record.value(), UserSaid).message_id for record in records_on(kafka_settings, USER_QUERY)]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "timer",
    [ReminderDue("demo", "alice", "call back", due=1), SessionIdled("demo", "alice", due=1)],
    ids=lambda t: t.type,
)
def test_a_replayed_timer_differs_only_in_id_and_time(dlq, kafka_settings, timer):
    """The dead letter is a reminder or a silence that failed."""
    put(kafka_settings, letter(timer))
    code, lines, errors = dlq("replay", "--yes", "--json", listed(dlq)[0]["position"])
    assert code == 0, errors
    (sent,) = records_on(kafka_settings, USER_QUERY)
    again = decode_inbox(sent.value())
    assert again == replace(timer, id=again.id, ts=again.ts)
    assert again.id == json.loads(lines[0])["message_id"] != timer.id


@pytest.mark.parametrize("dies_after", [1, 2])
def test_an_interrupted_replay_is_repeated_under_the_same_id(dlq, kafka_settings, monkeypatch, dies_after):
    """`dlq replay` stops between its steps. The second run sends the message under the same id, so it runs once."""
    put(kafka_settings, letter(message()))
    place = listed(dlq)[0]["position"]
    steps, send = [], Handler._all

    async def dies(self, records):
        if len(steps) == dies_after:
            raise QueueUnavailable("no acknowledgement")
        steps.append(records)
        await send(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(Handler, "_all", dies)
        code, _, errors = dlq("replay", "--yes", place)
    assert code == 1 and "nothing is done twice" in errors
    assert listed(dlq)[0]["state"] == "replaying"
    assert dlq("replay", "--yes", place)[0] == 0
    ids = [decode(record.value(), UserSaid).message_id for record in records_on(kafka_settings, USER_QUERY)]
    assert len(ids) == dies_after and len(set(ids)) == 1
    assert len(
        {record.value() and decode(record.value(), AuditEntry).id for record in records_on(kafka_settings, AUDIT)}
    )
    assert listed(dlq, "--all")[0]["state"] == "replayed"


def test_an_old_interrupted_replay_is_not_repeated(dlq, kafka_settings, monkeypatch):
    """Beyond RESEND_MS the marker of the first sending may be gone; only --again sends it then."""
    original = message()
    put(kafka_settings, letter(original))
    place = listed(dlq)[0]["position"]
    with monkeypatch.context() as patch:
        patch.setattr(handling, "_replay", lambda task: (_ for _ in ()).throw(QueueUnavailable("gone")))
        assert dlq("replay", "--yes", place)[0] == 1
    monkeypatch.setattr(handling, "RESEND_MS", 0)
    code, _, errors = dlq("replay", "--yes", place)
    assert code == 1 and "nobody knows whether it went out" in errors
    assert records_on(kafka_settings, USER_QUERY) == []
    assert dlq("replay", "--yes", "--again", place)[0] == 0
    assert len(records_on(kafka_settings, USER_QUERY)) == 1


def test_dropped_dead_letter_is_unlisted_and_audited(dlq, kafka_settings):
    put(kafka_settings, letter(message()), letter(message("bob", "m2")))
    place = next(each["position"] for each in listed(dlq) if each["conversation"] == "demo:alice")
    assert dlq("drop", "--yes", place)[0] == 0
    assert [each["conversation"] for each in listed(dlq)] == ["demo:bob"]
    (entry,) = [decode(record.value(), AuditEntry) for record in records_on(kafka_settings, AUDIT)]
    assert entry.action == "dead_letter.drop"
    assert records_on(kafka_settings, USER_QUERY) == []
    assert dlq("drop", "--yes", place)[0] == 1


def test_unreadable_dead_letter_can_only_be_dropped(dlq, kafka_settings):
    wrong_key = (DEAD_LETTERS, b"demo:bob", encode(message()), letter(message())[3])
    put(kafka_settings, letter(b"\xff{", "not_json", offset=8), wrong_key)
    letters = listed(dlq)
    assert {each["unreadable"] for each in letters} == {"not_json", "wrong_key"}
    places = [each["position"] for each in letters]
    code, lines, errors = dlq("replay", "--yes", *places)
    assert (code, lines) == (1, [])
    assert "can't be read (not_json)" in errors and "can't be read (wrong_key)" in errors
    assert dlq("drop", "--yes", *places)[0] == 0
    assert listed(dlq) == []


def test_copies_of_a_dead_letter_are_handled_as_one(dlq, kafka_settings):
    put(kafka_settings, letter(message(), offset=7), letter(message(), "internal_error", offset=7))
    put(kafka_settings, letter(message(), "internal_error", offset=19))
    (known,) = listed(dlq)
    assert known["error_class"] == "ValueError"
    assert dlq("replay", "--yes", "--matching-all")[0] == 0
    assert len(records_on(kafka_settings, USER_QUERY)) == 1
    assert listed(dlq) == []


def test_dlq_replay_with_a_filter_keeps_the_letters_order(dlq, kafka_settings):
    messages = [message("alice", f"m{number}", f"text {number}") for number in range(250)]
    put(kafka_settings, *(letter(each) for each in messages), letter(message("bob", "b"), "KeyError"))
    assert dlq("replay", "--dry-run", "--error-class", "ValueError")[1][0].endswith(tuple("0123456789abcdef"))
    assert records_on(kafka_settings, USER_QUERY) == []
    code, lines, _ = dlq("replay", "--yes", "--error-class", "ValueError")
    assert (code, len(lines)) == (0, 250)
    texts = [decode(record.value(), UserSaid).text for record in records_on(kafka_settings, USER_QUERY)]
    assert texts == [each.text for each in messages]
    assert [each["conversation"] for each in listed(dlq)] == ["demo:bob"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "usage"),
        (("list", "--since", "yesterday"), "ISO 8601"),
        (("show", "7"), "PARTITION:OFFSET"),
        (("replay", "--yes"), "which letters?"),
        (("drop", "--yes", "0:1", "--matching-all"), "not both"),
        (("replay", "0:1"), "--yes or --dry-run"),
    ],
)
def test_dlq_refuses_wrong_arguments(dlq, words, says):
    code, _, errors = dlq(*words)
    assert code == 2 and says in errors


def test_dlq_reports_an_unreachable_kafka_and_exits_with_1(dlq, monkeypatch):
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    code, _, errors = dlq("list")
    assert code == 1 and "Run the same command again" in errors
    assert "KAFKA_BROKERS names 127.0.0.1:1, where no broker answers" in errors


def test_dlq_waits_for_a_new_topic_and_reports_a_missing_one(dlq, kafka_settings, monkeypatch):
    new = replace(kafka_settings, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", new.topic_prefix)
    monkeypatch.setattr("kefu.tools.topic_reader.NEW_S", 0)
    code, _, errors = dlq("list")
    assert code == 1 and "UNKNOWN_TOPIC_OR_PART" in errors
    monkeypatch.setattr("kefu.tools.topic_reader.NEW_S", 60)
    making = threading.Timer(1.0, create_topics, [new])
    making.start()
    assert listed(dlq) == []
    making.join()


def peak_kb(settings):
    """List the letters in a separate process; return its peak memory in kB and the number of letters."""
    code = "from kefu.tools.dlq.command import main; main(['list', '--json']); "
    code += "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    done = subprocess.run(
        [services_python(), "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment(settings)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *letters, peak = done.stdout.splitlines()
    return int(peak), len(letters)


def test_dlq_list_does_not_keep_the_letters_in_memory(kafka_settings):
    """60 MB of letters raise the peak memory by less than 35 MB."""
    put(kafka_settings, letter(message()))
    few, one = peak_kb(kafka_settings)
    for start in range(0, 20_000, 5000):
        numbers = range(start, start + 5000)
        put(kafka_settings, *(letter(message(f"u{n}", f"m{n}", uuid.uuid4().hex * 94)) for n in numbers))
    many, count = peak_kb(kafka_settings)
    assert (one, count) == (1, 20_001)
    assert many - few < 35_000, (few, many)


def test_dlq_user_without_login_name_needs_kefu_operator(dlq, monkeypatch):
    """In a container the user has no name. --dry-run needs none."""
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for name in LOGIN_NAMES:
        monkeypatch.delenv(name, raising=False)
    _, _, errors = dlq("replay", "--yes", "1:0")
    assert "1:0: no dead letter there" in errors
    monkeypatch.delenv("KEFU_OPERATOR")
    _, _, errors = dlq("replay", "--dry-run", "1:0")
    assert "1:0: no dead letter there" in errors
    with pytest.raises(SettingsError, match="KEFU_OPERATOR"):
        dlq("replay", "--yes", "1:0")
