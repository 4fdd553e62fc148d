"""Offsets are committed up to the lowest unfinished message, whatever order messages finish in."""

import itertools

from kefu.worker.intake import Partition


def test_the_offset_to_commit_never_passes_an_unfinished_message():
    for order in itertools.permutations([5, 6, 8, 9]):  # 7 is missing: compaction and transactions leave holes
        partition = Partition(0)
        for offset in (5, 6, 8, 9):
            partition.take(offset)
        finished = set()
        for offset in order:
            partition.done(offset)
            finished.add(offset)
            unfinished = {5, 6, 8, 9} - finished
            limit = min(unfinished, default=10)
            assert (partition.committable or 0) <= limit
        assert partition.committable == 10


def test_nothing_is_committed_while_the_first_message_is_unfinished():
    partition = Partition(0)
    partition.take(1)
    partition.take(2)
    partition.done(2)
    assert partition.committable is None
