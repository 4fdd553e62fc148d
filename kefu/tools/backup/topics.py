"""Saves whole topics into files and writes them back into empty topics, with the offsets of the workers' group.

The group's offsets are read before the records. A message that is answered in between is read again after a restore,
and its marker keeps it from being answered twice.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import orjson
from confluent_kafka import Producer

from kefu.errors import QueueUnavailable, RecordRefused
from kefu.events import CANDIDATE_QUERY, TOPICS, USER_QUERY
from kefu.kafka import MAX_RECORD_BYTES, damped_errors
from kefu.settings import KafkaSettings
from kefu.tools.backup.files import BrokenBackup, Kept, read, write
from kefu.tools.clients import TIMEOUT_S
from kefu.tools.groups import commit, committed, members
from kefu.tools.topic_reader import TopicReader

CONTENTS = "contents.json"  # is written last, so a folder without it is no finished backup
SAVED = [topic for topic in TOPICS if topic != CANDIDATE_QUERY]  # its records are copies of user.query's


def save(kafka: KafkaSettings, folder: Path, tell: Callable[[str], None] = print) -> Dict[str, int]:
    """Write every topic into a new folder; returns the number of records by topic. Blocks.

    Raises:
        QueueUnavailable: Kafka doesn't answer. The folder is then no backup, for `contents.json` is missing.
    """
    folder.mkdir(parents=True)
    counts: Dict[str, int] = {}
    with closing(TopicReader(kafka)) as reader:
        counted = {topic: reader.partitions(kafka.topic_prefix + topic) for topic in SAVED}
        offsets = committed(kafka, kafka.group, kafka.topic_prefix + USER_QUERY)
        for topic, count in counted.items():
            counts[topic] = sum(
                write(folder / f"{topic}-{number}.gz", _records(reader, kafka.topic_prefix + topic, number))
                for number in range(count)
            )
            tell(f"{topic}: {counts[topic]} records of {count} partitions")
    contents = {
        "at_ms": round(time.time() * 1000),
        "partitions": counted,
        "records": counts,
        "committed": {str(number): offset for number, offset in offsets.items() if offset >= 0},
    }
    (folder / CONTENTS).write_bytes(orjson.dumps(contents, option=orjson.OPT_INDENT_2))
    return counts


def restore(kafka: KafkaSettings, folder: Path, tell: Callable[[str], None] = print) -> Dict[str, int]:
    """Write a backup into existing, empty, unused topics; returns the number of records by topic. Blocks.

    Raises:
        BrokenBackup: a file is missing or not whole. All files are read before the first record is written.
        QueueUnavailable: Kafka doesn't answer; delete the topics and create them again before the next try.
        RecordRefused: a topic is not empty or has another number of partitions, or workers are running.
    """
    contents = _contents(folder)
    _refuse_unfit(kafka, contents)
    counts: Dict[str, int] = {}
    offsets: Dict[int, int] = {}
    for topic, count in contents["partitions"].items():
        counts[topic] = 0
        for number in range(count):
            committed = contents["committed"].get(str(number), -1) if topic == USER_QUERY else -1
            written, before = _write_back(kafka, topic, number, folder / f"{topic}-{number}.gz", committed)
            counts[topic] += written
            if committed >= 0:
                offsets[number] = before
        tell(f"{topic}: {counts[topic]} records")
    if offsets:
        commit(kafka, kafka.group, kafka.topic_prefix + USER_QUERY, offsets)
    return counts


def _contents(folder: Path) -> Dict[str, Any]:
    """Return the backup's `contents.json`, after comparing it with the files."""
    try:
        contents: Dict[str, Any] = orjson.loads((folder / CONTENTS).read_bytes())
    except (OSError, ValueError) as error:
        raise BrokenBackup(f"{CONTENTS} can't be read: this is no finished backup") from error
    for topic, count in contents["partitions"].items():
        records = sum(sum(1 for _ in read(folder / f"{topic}-{number}.gz")) for number in range(count))
        if records != contents["records"][topic]:
            raise BrokenBackup(f"{topic} has {records} records, not {contents['records'][topic]}")
    return contents


def _refuse_unfit(kafka: KafkaSettings, contents: Dict[str, Any]) -> None:
    """Raise RecordRefused if the backup can't be restored now: topics are not empty or differ, or workers run."""
    with closing(TopicReader(kafka)) as reader:
        for topic, wanted in contents["partitions"].items():
            name = kafka.topic_prefix + topic
            there = reader.partitions(name)
            if there != wanted:
                raise RecordRefused(f"{topic} has {there} partitions and had {wanted}: set KEFU_TOPIC_PARTITIONS")
            if any(reader.bounds(name, number)[1] for number in range(there)):
                raise RecordRefused(f"{topic} is not empty: restore into topics that are new")
    running = members(kafka, kafka.group)
    if running:
        raise RecordRefused(f"{running} workers are running: stop them first")


def _write_back(kafka: KafkaSettings, topic: str, number: int, path: Path, committed: int) -> "tuple[int, int]":
    """Produce a file's records in order; returns their number, and how many of them lie before the committed offset.

    Uses confluent-kafka's `Producer`: kafka-python's `send` refuses a header without a value, which a record may have.
    """
    producer = Producer(
        {
            **kafka.client_config(),
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "message.max.bytes": MAX_RECORD_BYTES,
            **damped_errors(),
        }
    )
    failed: List[str] = []
    written = before = 0
    for record in read(path):
        while True:
            try:
                producer.produce(
                    kafka.topic_prefix + topic,
                    record.value,
                    record.key,
                    number,
                    timestamp=record.timestamp_ms,
                    headers=[*record.headers],  # copied for the type checker: the client's list may also have str
                    on_delivery=lambda error, _: failed.append(error.name()) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        written += 1
        before += record.offset < committed
    if producer.flush(TIMEOUT_S) or failed:
        raise QueueUnavailable(f"{topic}: {failed[0] if failed else 'no acknowledgement'}")
    return written, before


def _records(reader: TopicReader, name: str, number: int) -> Iterator[Kept]:
    for record in reader.records(name, number):
        yield Kept(record.offset, record.timestamp, record.key, record.value, list(record.headers))
