"""A backup file gives back the written records, or raises BrokenBackup."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kefu.tools.backup.files import BrokenBackup, Kept, read, write

BYTES = st.none() | st.binary(max_size=40)
RECORDS = st.lists(
    st.builds(Kept, st.integers(0, 2**60), st.integers(0, 2**45), BYTES, BYTES, st.lists(st.tuples(st.text(), BYTES)))
)
ONE = Kept(7, 1, b"demo:alice", "你好".encode(), [("traceparent", b"00-1"), ("empty", None)])


@settings(deadline=None, max_examples=25)
@given(RECORDS)
def test_backup_file_gives_back_its_records(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("backup") / "topic-0.gz"
    assert write(path, records) == len(records)
    assert list(read(path)) == records


def test_truncated_backup_file_is_refused(tmp_path):
    path, cut = tmp_path / "whole.gz", tmp_path / "cut.gz"
    write(path, [ONE])
    whole = path.read_bytes()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BrokenBackup):
            list(read(cut))


def test_backup_file_with_a_changed_byte_is_refused(tmp_path):
    path, changed = tmp_path / "whole.gz", tmp_path / "changed.gz"
    write(path, [ONE])
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    changed.write_bytes(bytes(whole))
    with pytest.raises(BrokenBackup):
        list(read(changed))


def test_missing_backup_file_is_refused(tmp_path):
    with pytest.raises(BrokenBackup):
        list(read(tmp_path / "none.gz"))
