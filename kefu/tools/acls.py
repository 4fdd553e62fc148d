"""The rights of each role on Kafka, as ACLs that `python -m kefu topics` creates on brokers with an authorizer.

In: the Kafka user of each role, from settings. Out: ACL bindings on the brokers. The brokers refuse everything else.
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
    """Return the rights that each role needs, and no more. READ, WRITE and ALTER include DESCRIBE.

    Idempotent writes need WRITE only.
    Source: Kafka's documentation, "Operations and resources on protocols" (KIP-679 for idempotent producers).
    """
    prefix, group = kafka.topic_prefix, kafka.group

    def on(operation: ACLOperation, *topics: str) -> List[Right]:
        return [(TOPIC, prefix + topic, operation) for topic in topics]

    return {
        # Writes messages, desk events and audit entries. It reads nothing, so that an intruder in the gateway sees no
        # conversation on Kafka.
        "gateway": on(WRITE, USER_QUERY, AUDIT),
        # Writes user.query because timers go through the inbox (record 4). Reads DIALOGUE_EVENTS and ANSWERS to mend
        # Redis (record 3). In CANDIDATE_QUERY active workers write messages that a release's candidate reads
        # (record 21).
        "worker": [
            *on(READ, USER_QUERY, CANDIDATE_QUERY, DIALOGUE_EVENTS, ANSWERS),
            *on(WRITE, USER_QUERY, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, ANSWERS),
            (GROUP, group, READ),
            (GROUP, kafka.candidate_group, READ),
        ],
        # For `python -m kefu dlq` (record 7), and for `tenants`, which counts keys: Kafka has no right for keys alone.
        "operator": [
            *on(READ, DEAD_LETTERS, USER_QUERY),
            *on(WRITE, DEAD_LETTERS, USER_QUERY, AUDIT),
            # For `python -m kefu partitions`, which reads the lag. To delete or configure a topic needs other rights.
            *on(ALTER, *ORDER),
            (GROUP, group, DESCRIBE),
        ],
        # For `python -m kefu backup save|restore`: every saved topic, and the workers' offsets.
        "backup": [*on(READ, *SAVED), *on(WRITE, *SAVED), (GROUP, group, READ)],
        # For KEDA's scaler, which reads the lag and no records.
        "scaler": [
            *on(DESCRIBE, USER_QUERY, CANDIDATE_QUERY),
            (GROUP, group, DESCRIBE),
            (GROUP, kafka.candidate_group, DESCRIBE),
        ],
    }


def grant(kafka: KafkaSettings, principals: Mapping[str, str]) -> int:
    """Give the roles their rights; giving them twice is harmless. Blocks; returns the number of bindings.

    Args:
        kafka: the settings of a principal that may ALTER the cluster.
        principals: role to Kafka user; missing roles get no rights.

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
    results = client.create_acls(wanted)
    if results["failed"]:
        refused = next(acl for acl in wanted if acl not in results["succeeded"])
        raise QueueUnavailable(f"ACL on {refused.resource_pattern.resource_name}: {reason(results['failed'][0])}")
