"""`python -m kefu topics [--to STEP]`: brings the topics to a step of their history, forward or back.

Forward makes what is missing and gives the roles their rights; nothing that is there is changed, so that older
processes go on. Back takes away what an older release doesn't know, unless somebody reads it or something waits in it.
How many partitions a topic has is no step: Kafka can't take one away, and no release depends on their number.
"""

import argparse
import sys
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Dict, List, NamedTuple, Tuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, AUDIT, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, LOOKUPS, USER_QUERY
from kefu.kafka import create_topics, damped_errors
from kefu.settings import KafkaSettings, kafka_principals
from kefu.tools.acls import grant
from kefu.tools.partitions import counted, lag
from kefu.topic_reader import asked

TIMEOUT_S = 30.0
DONE, REFUSED = 0, 1


class Step(NamedTuple):
    """What one release added: its topics, without the prefix."""

    what: str
    topics: Tuple[str, ...]


# By number, from 1. A later step may add topics alone: what is renamed is a new topic, and goes with a later release.
STEPS = (
    Step("what the platform began with", (USER_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, ANSWERS, LOOKUPS, AUDIT)),
    Step("the inbox of a release's candidate", (CANDIDATE_QUERY,)),
)


def main(arguments: List[str]) -> int:
    """Go to a step; returns 0, or 1 when it was refused. Raises QueueUnavailable."""
    options = _parser().parse_args(arguments)
    kafka = KafkaSettings.from_env()
    problem = "" if options.despite_lag else refusal(kafka, options.to)
    if problem:
        print(f"kefu topics: {problem}", file=sys.stderr)
        return REFUSED
    for topic, outcome in {**forward(kafka, options.to), **back(kafka, options.to)}.items():
        print(f"{topic}: {outcome}")
    if options.to == len(STEPS):  # an older release gives the rights that it knows
        for role, user in kafka_principals().items():
            print(f"{role} is {user}: {grant(kafka, {role: user})} rights")
    return DONE


def refusal(kafka: KafkaSettings, step: int) -> str:
    """Return why topics may not go back to a step now; empty when they may. Blocks; raises QueueUnavailable."""
    for topic in _there(kafka, step):
        if _read_by_somebody(kafka):
            return f"workers read {topic}: end the release first (python -m ops.release finish)"
        waiting = lag(kafka, topic, kafka.candidate_group)
        if waiting:
            return f"{waiting} messages wait in {topic}; --despite-lag drops them"
    return ""


def forward(kafka: KafkaSettings, step: int) -> Dict[str, str]:
    """Make the missing topics of all steps up to this one. Blocks; returns topic to what was done.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused; what was made stays.
    """
    return create_topics(kafka, TIMEOUT_S, {topic for each in STEPS[:step] for topic in each.topics})


def back(kafka: KafkaSettings, step: int) -> Dict[str, str]:
    """Remove the topics of all later steps, and every right on them. Blocks; returns topic to `removed`.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused; the same call goes on where it stopped.
    """
    admin = AdminClient({**kafka.client_config(), **damped_errors()})
    removed = {}
    for topic in _there(kafka, step):
        name = kafka.topic_prefix + topic
        rights = AclBindingFilter(
            ResourceType.TOPIC, name, ResourcePatternType.LITERAL, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        _answered(admin.delete_topics([name], operation_timeout=TIMEOUT_S)[name], topic)
        _answered(admin.delete_acls([rights])[rights], topic)
        removed[name] = "removed"
    return removed


def _there(kafka: KafkaSettings, step: int) -> List[str]:
    """Return the topics of later steps that exist, the newest first."""
    later = [topic for each in reversed(STEPS[step:]) for topic in each.topics]
    counts = counted(kafka) if later else {}
    return [topic for topic in later if counts.get(topic)]


def _read_by_somebody(kafka: KafkaSettings) -> bool:
    admin = AdminClient({**kafka.client_config(), **damped_errors()})

    def has_members() -> bool:
        try:
            group = admin.describe_consumer_groups([kafka.candidate_group])[kafka.candidate_group].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            raise
        return bool(group.members)

    return asked(has_members)


def _answered(future: object, topic: str) -> None:
    try:
        future.result(TIMEOUT_S)  # type: ignore[attr-defined]
    except FutureTimeout as error:
        raise QueueUnavailable(f"topic {topic}: no answer within {TIMEOUT_S:.0f} s") from error
    except KafkaException as error:
        if error.args[0].code() != KafkaError.SECURITY_DISABLED:  # a broker without rights has none to remove
            raise QueueUnavailable(f"topic {topic}: {error.args[0].name()}") from error


def _parser() -> argparse.ArgumentParser:
    steps = "; ".join(f"{number}: {step.what}" for number, step in enumerate(STEPS, 1))
    parser = argparse.ArgumentParser(prog="python -m kefu topics", description=__doc__.splitlines()[0])
    numbers = range(1, len(STEPS) + 1)
    parser.add_argument("--to", type=int, choices=numbers, default=len(STEPS), help=f"the step to go to. {steps}")
    parser.add_argument("--despite-lag", action="store_true", help="though somebody reads what goes, or messages wait")
    return parser
