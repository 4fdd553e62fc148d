"""`python -m kefu topics [--to STEP]`: brings the topics to a step of their history, forward or back.

A step is the set of topics of one release.

Forward creates missing topics and gives the roles their rights. It changes no existing topic, so older processes keep
working. Back removes the topics that an older release doesn't know, unless a topic has readers or waiting messages.
The number of partitions is not part of a step: Kafka can't remove a partition, and no release depends on the number.
"""

import argparse
import sys
from contextlib import closing
from functools import partial
from typing import Dict, List, NamedTuple, Tuple

from kafka import KafkaAdminClient
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import NoError, SecurityDisabledError

from kefu.events import ANSWERS, AUDIT, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, LOOKUPS, USER_QUERY
from kefu.kafka import create_topics
from kefu.settings import KafkaSettings, kafka_principals
from kefu.tools.acls import grant
from kefu.tools.clients import TIMEOUT_S, admin, asked
from kefu.tools.groups import lag, members
from kefu.tools.partitions import counted

DONE, REFUSED = 0, 1  # exit codes


class Step(NamedTuple):
    """The topics that one release added, without the prefix, and a description of them (`what`)."""

    what: str
    topics: Tuple[str, ...]


# The first step has number 1. A new step may only add topics: a renamed topic is a new one, and a later release
# removes the old one.
STEPS = (
    Step("what the platform began with", (USER_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, ANSWERS, LOOKUPS, AUDIT)),
    Step("the inbox of a release's candidate", (CANDIDATE_QUERY,)),
)


def main(arguments: List[str]) -> int:
    """Bring the topics to a step; returns 0, or 1 if it was refused. Raises QueueUnavailable."""
    options = _parser().parse_args(arguments)
    kafka = KafkaSettings.from_env()
    admin(kafka).close()  # if no broker answers, this fails with the reason within 5 s; `create_topics` waits for 30
    problem = "" if options.despite_lag else refusal(kafka, options.to)
    if problem:
        print(f"kefu topics: {problem}", file=sys.stderr)
        return REFUSED
    for topic, outcome in {**forward(kafka, options.to), **back(kafka, options.to)}.items():
        print(f"{topic}: {outcome}")
    if options.to == len(STEPS):  # at an earlier step the older release itself gives the rights that it knows
        for role, user in kafka_principals().items():
            print(f"{role} is {user}: {grant(kafka, {role: user})} rights")
    return DONE


def refusal(kafka: KafkaSettings, step: int) -> str:
    """Return why the topics may not go back to a step now; empty if they may. Blocks; raises QueueUnavailable."""
    for topic in _there(kafka, step):
        if members(kafka, kafka.candidate_group):
            return f"workers read {topic}: end the release first (python -m ops.release finish)"
        waiting = lag(kafka, topic, kafka.candidate_group)
        if waiting:
            return f"{waiting} messages wait in {topic}; --despite-lag drops them"
    return ""


def forward(kafka: KafkaSettings, step: int) -> Dict[str, str]:
    """Create the missing topics of all steps up to this one. Blocks; returns topic to `created` or `exists`.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused; created topics stay.
    """
    return create_topics(kafka, TIMEOUT_S, {topic for each in STEPS[:step] for topic in each.topics})


def back(kafka: KafkaSettings, step: int) -> Dict[str, str]:
    """Remove the topics of all later steps, and every right on them. Blocks; returns topic to `removed`.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused; the same call then continues the removal.
    """
    removed = {}
    with closing(admin(kafka)) as client:
        for topic in _there(kafka, step):
            name = kafka.topic_prefix + topic
            asked(partial(client.delete_topics, [name]), f"topic {topic}")
            asked(partial(_remove_rights, client, name), f"topic {topic}")
            removed[name] = "removed"
    return removed


def _remove_rights(client: KafkaAdminClient, name: str) -> None:
    topic = ResourcePatternFilter(ResourceType.TOPIC, name, ACLResourcePatternType.LITERAL)
    everybody = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, topic)
    ((_, _, error),) = client.delete_acls([everybody])
    # SecurityDisabledError: the brokers have no authorizer, so there are no rights to remove.
    if error not in (NoError, SecurityDisabledError):
        raise error(name)


def _there(kafka: KafkaSettings, step: int) -> List[str]:
    """Return the topics of later steps that exist, the newest first."""
    later = [topic for each in reversed(STEPS[step:]) for topic in each.topics]
    counts = counted(kafka) if later else {}
    return [topic for topic in later if counts.get(topic)]


def _parser() -> argparse.ArgumentParser:
    steps = "; ".join(f"{number}: {step.what}" for number, step in enumerate(STEPS, 1))
    parser = argparse.ArgumentParser(prog="python -m kefu topics", description=__doc__.splitlines()[0])
    numbers = range(1, len(STEPS) + 1)
    parser.add_argument("--to", type=int, choices=numbers, default=len(STEPS), help=f"the step to go to. {steps}")
    parser.add_argument("--despite-lag", action="store_true", help="though somebody reads what goes, or messages wait")
    return parser
