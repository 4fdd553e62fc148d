"""`python -m kefu partitions COUNT`: adds partitions to the topics while everything runs.

Some conversations then move to another partition and so to another worker. The tracker's version protects them
(record 3). The order of a conversation is kept only if none of its messages wait in the old partition, so a lag stops
the command.
"""

import argparse
import sys
from contextlib import closing
from typing import Dict, List

from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, LOOKUPS, USER_QUERY
from kefu.kafka import METADATA_REFRESH_MS
from kefu.settings import KafkaSettings
from kefu.tools.clients import admin, asked
from kefu.tools.groups import lag

MOST_PARTITIONS = 4096  # the largest number of partitions that the command accepts
MOST_LAG = 1000  # the command is refused beyond it: some workers have this many messages under way, more is a backlog
# The inbox is last. While the topics have different numbers of partitions, a worker that mends Redis has to read all
# partitions of the other topics.
ORDER = (ANSWERS, DIALOGUE_EVENTS, DEAD_LETTERS, LOOKUPS, CANDIDATE_QUERY, USER_QUERY)
DONE, REFUSED = 0, 1  # exit codes


def main(arguments: List[str]) -> int:
    """Add partitions; returns 0, or 1 when it was refused or Kafka didn't answer."""
    options = _parser().parse_args(arguments)
    kafka = KafkaSettings.from_env()
    try:
        counts = counted(kafka)
        unasked = options.despite_lag or not counts[USER_QUERY]
        problem = refusal(counts, options.count, 0 if unasked else lag(kafka))
        if problem:
            print(f"kefu partitions: {problem}", file=sys.stderr)
            return REFUSED
        for topic in ORDER:
            if options.dry_run or counts[topic] == options.count:
                print(f"{topic}: {counts[topic]} of {options.count}")
            else:
                add(kafka, topic, options.count)
                print(f"{topic}: {counts[topic]} -> {options.count}")
    except QueueUnavailable as error:
        print(f"kefu partitions: {error}. Run the same command again: it goes on where it stopped.", file=sys.stderr)
        return REFUSED
    print(f"gateways and workers know of it within {METADATA_REFRESH_MS / 1000:.0f} s")
    return DONE


def refusal(counts: Dict[str, int], count: int, waiting: int) -> str:
    """Return why partitions may not be added now; empty when they may."""
    missing = sorted(topic for topic in ORDER if not counts.get(topic))
    if missing:
        return f"missing topics: {', '.join(missing)}; `python -m kefu topics` makes them"
    if not 1 <= count <= MOST_PARTITIONS:
        return f"the number must be from 1 to {MOST_PARTITIONS}"
    if any(counts[topic] > count for topic in ORDER):
        return "Kafka can't take partitions away"
    if waiting > MOST_LAG:
        return f"{waiting} messages wait; a conversation's later ones could overtake them. --despite-lag adds anyway"
    return ""


def counted(kafka: KafkaSettings) -> Dict[str, int]:
    """Return how many partitions each topic has, 0 for a missing topic. Blocks; raises QueueUnavailable."""
    names = {kafka.topic_prefix + topic: topic for topic in ORDER}
    with closing(admin(kafka)) as client:
        topics = asked(lambda: client.describe_topics(list(names)))
    return {names[topic["name"]]: len(topic["partitions"]) for topic in topics}


def add(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Raise a topic's partitions to `count`. Blocks; raises QueueUnavailable if a broker refuses or doesn't answer."""
    with closing(admin(kafka)) as client:
        asked(lambda: client.create_partitions({kafka.topic_prefix + topic: count}), topic)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kefu partitions", description=__doc__)
    parser.add_argument("count", type=int, help="how many each topic shall have")
    parser.add_argument("--dry-run", action="store_true", help="say what there is, change nothing")
    parser.add_argument("--despite-lag", action="store_true", help="though messages wait in the old partitions")
    return parser
