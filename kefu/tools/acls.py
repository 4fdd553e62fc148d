"""Who may do what on Kafka, by role: the ACLs that brokers with an authorizer get from `python -m kefu topics`.

In: the principal of each role, from settings. Out: bindings on the brokers. What no line here allows is refused.
"""

from contextlib import closing
from functools import partial
from typing import Dict, List, Mapping, Tuple

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, AUDIT, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, USER_QUERY
from kefu.settings import KafkaSettings
from kefu.tools.backup.topics import SAVED
from kefu.tools.clients import admin, asked, reason
from kefu.tools.partitions import ORDER

READ, WRITE = ACLOperation.READ, ACLOperation.WRITE
DESCRIBE, ALTER = ACLOperation.DESCRIBE, ACLOperation.ALTER
TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
Right = Tuple[ResourceType, str, ACLOperation]


def rights(kafka: KafkaSettings) -> Dict[str, List[Right]]:
    """Return what each role needs, and no more. READ, WRITE and ALTER bring DESCRIBE along.

    Idempotent writes need WRITE only.
    Source: Kafka's documentation, "Operations and resources on protocols" (KIP-679 for idempotent producers).
    """
    prefix, group = kafka.topic_prefix, kafka.group

    def on(operation: ACLOperation, *topics: str) -> List[Right]:
        return [(TOPIC, prefix + topic, operation) for topic in topics]

    return {
        # Accepts messages and what the desk asks, which is noted; reads none, so that who breaks into it sees nobody's
        # conversation on Kafka.
        "gateway": on(WRITE, USER_QUERY, AUDIT),
        # user.query: timers go through the inbox (record 4). The last two are read to mend Redis (record 3). What a
        # release's candidate is to answer is written by the active workers and read by the candidate's (record 21).
        "worker": [
            *on(READ, USER_QUERY, CANDIDATE_QUERY, DIALOGUE_EVENTS, ANSWERS),
            *on(WRITE, USER_QUERY, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, ANSWERS),
            (GROUP, group, READ),
            (GROUP, kafka.candidate_group, READ),
        ],
        # `python -m kefu dlq`, record 7, and `tenants`, which counts keys: Kafka gives no key without its masked text.
        "operator": [
            *on(READ, DEAD_LETTERS, USER_QUERY),
            *on(WRITE, DEAD_LETTERS, USER_QUERY, AUDIT),
            # `python -m kefu partitions`, which looks how much waits. To delete or configure a topic wants more.
            *on(ALTER, *ORDER),
            (GROUP, group, DESCRIBE),
        ],
        # `python -m kefu backup save|restore`: all that is in a backup, and the workers' offsets.
        "backup": [*on(READ, *SAVED), *on(WRITE, *SAVED), (GROUP, group, READ)],
        # KEDA's scaler: how much waits, not what.
        "scaler": [
            *on(DESCRIBE, USER_QUERY, CANDIDATE_QUERY),
            (GROUP, group, DESCRIBE),
            (GROUP, kafka.candidate_group, DESCRIBE),
        ],
    }


def grant(kafka: KafkaSettings, principals: Mapping[str, str]) -> int:
    """Give the roles their rights, which may be there already. Blocks; returns how many bindings were asked for.

    Args:
        kafka: a principal's settings that may ALTER the cluster.
        principals: user name by role; roles left out get nothing.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused.
    """
    wanted = [
        ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name))
        for role, user in principals.items()
        for kind, name, operation in rights(kafka)[role]
    ]
    if not wanted:
        return 0
    with closing(admin(kafka)) as client:
        asked(partial(_create, client, wanted))
    return len(wanted)


def _create(client: KafkaAdminClient, wanted: List[ACL]) -> None:
    made = client.create_acls(wanted)
    if made["failed"]:
        refused = next(acl for acl in wanted if acl not in made["succeeded"])
        raise QueueUnavailable(f"ACL on {refused.resource_pattern.resource_name}: {reason(made['failed'][0])}")
