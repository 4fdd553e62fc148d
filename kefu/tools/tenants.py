"""`python -m kefu tenants`: shows who fills the inbox: its newest records, counted by tenant or by customer.

In: the keys of `user.query`. Out: the most frequent keys, never a text. A metric can't show this, because metrics hold
no ids.
"""

import argparse
import sys
from collections import Counter
from contextlib import closing
from typing import Dict, List, Tuple

from kefu.errors import QueueUnavailable
from kefu.events import USER_QUERY
from kefu.settings import KafkaSettings
from kefu.tools.options import count as number_above_0
from kefu.tools.options import moment
from kefu.tools.topic_reader import TopicReader

SINCE = "10m"  # the default of --since: records of the last ten minutes are counted
# Limits the records of `user.query` that are counted: 200,000 take some seconds, and their conversations' keys
# fit into memory. Beyond it, older records are left out.
MOST_RECORDS = 200_000
LINES = 20  # the default of --limit
DONE, FAILED = 0, 1  # exit codes


def main(arguments: List[str]) -> int:
    """Print the largest counts; returns 0, or 1 if Kafka didn't answer. Raises SettingsError for a wrong setting."""
    options = _parser().parse_args(arguments)
    try:
        counts, cut = count(KafkaSettings.from_env(), options.since, options.most)
    except QueueUnavailable as error:
        print(f"kefu tenants: {error}", file=sys.stderr)
        return FAILED
    for line in (by_customer if options.customers else by_tenant)(counts, options.limit):
        print(line)
    if cut:
        print(f"more came since then: these are the newest {counts.total()}, --most counts more", file=sys.stderr)
    return DONE


def count(kafka: KafkaSettings, since_ms: int, most: int = MOST_RECORDS) -> Tuple[Counter[str], bool]:
    """Return how many records each conversation has in the inbox, and whether older ones were left out. Blocks.

    Args:
        kafka: the connection; its user may READ the inbox.
        since_ms: earliest time of a counted record, ms since the epoch.
        most: limits the counted records of all partitions together. Each partition has an equal share of it, for its
            newest records.

    Raises:
        QueueUnavailable: Kafka doesn't answer.
    """
    counts: Counter[str] = Counter()
    cut = False
    name = kafka.topic_prefix + USER_QUERY
    with closing(TopicReader(kafka)) as reader:
        number_of = reader.partitions(name)
        for number in range(number_of):
            since = reader.offset_at(name, number, since_ms)
            newest = reader.bounds(name, number)[1] - -(-most // number_of)  # the first of this partition's share
            cut |= newest > since
            for record in reader.records(name, number, max(since, newest)):
                counts[(record.key or b"?").decode("utf-8", "replace")] += 1
    return counts, cut


def by_tenant(counts: Counter[str], limit: int) -> List[str]:
    """Return lines: records, share of all, customers, tenant."""
    records: Counter[str] = Counter()
    customers: Dict[str, int] = Counter()
    for conversation, number in counts.items():
        tenant = conversation.partition(":")[0]
        records[tenant] += number
        customers[tenant] += 1
    lines = [
        f"{number:>9}  {number / counts.total():>6.1%}  {customers[tenant]:>9}  {tenant}"
        for tenant, number in records.most_common(limit)
    ]
    return [f"{'RECORDS':>9}  {'SHARE':>6}  {'CUSTOMERS':>9}  TENANT", *lines]


def by_customer(counts: Counter[str], limit: int) -> List[str]:
    """Return lines: records, share of all, conversation."""
    lines = [
        f"{number:>9}  {number / counts.total():>6.1%}  {conversation}"
        for conversation, number in counts.most_common(limit)
    ]
    return [f"{'RECORDS':>9}  {'SHARE':>6}  CONVERSATION", *lines]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kefu tenants", description=__doc__.splitlines()[0])
    parser.add_argument("--since", type=moment, default=SINCE, metavar="TIME", help=f"{SINCE} (ago), 2h, ISO 8601")
    parser.add_argument("--customers", action="store_true", help="by customer, TENANT:USER")
    parser.add_argument("--limit", type=number_above_0, default=LINES, metavar="N", help=f"lines ({LINES})")
    parser.add_argument(
        "--most", type=number_above_0, default=MOST_RECORDS, metavar="N", help=f"records, the newest ({MOST_RECORDS})"
    )
    return parser
