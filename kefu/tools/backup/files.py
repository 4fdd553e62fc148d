"""The format of a backup: one compressed file for each partition of a topic.

A record is a series of pieces, each preceded by its length. The number of records follows at the end, so that a cut or
changed file is noticed while it is read.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Tuple

import orjson

from kefu.errors import KefuError

_LENGTH = struct.Struct(">i")
_NONE, _END = -1, -2  # written in place of a length: a piece that is null, and the end of the records
MAX_PIECE_BYTES = 64 * 1024 * 1024  # limits a key, value or header that is read; a larger length means a broken file


class BrokenBackup(KefuError):
    """A file of a backup is missing, cut or changed."""


@dataclass(frozen=True)
class Kept:
    """A record of a backup, as it was in Kafka."""

    offset: int
    timestamp_ms: int
    key: Optional[bytes]
    value: Optional[bytes]
    headers: List[Tuple[str, Optional[bytes]]]


def write(path: Path, records: Iterable[Kept]) -> int:
    """Write records into a file; return their number. The file gets its final name only when it is complete."""
    count, unfinished = 0, path.with_suffix(".unfinished")
    with gzip.open(unfinished, "wb", compresslevel=3) as file:
        for record in records:
            place = {
                "offset": record.offset,
                "ts": record.timestamp_ms,
                "headers": [name for name, _ in record.headers],
            }
            _put(file, orjson.dumps(place))
            for piece in (record.key, record.value, *(value for _, value in record.headers)):
                _put(file, piece)
            count += 1
        file.write(_LENGTH.pack(_END) + struct.pack(">q", count))
    unfinished.rename(path)
    return count


def read(path: Path) -> Iterator[Kept]:
    """Yield the records of a file. Raises BrokenBackup as soon as the file differs from what was written."""
    count = 0
    try:
        with gzip.open(path, "rb") as file:
            while True:
                place = _get(file)
                if place is _END:
                    break
                head = orjson.loads(place)
                key, value = _get(file), _get(file)
                headers = [(name, _get(file)) for name in head["headers"]]
                yield Kept(head["offset"], head["ts"], key, value, headers)
                count += 1
            if struct.unpack(">q", file.read(8))[0] != count or file.read(1):
                raise BrokenBackup(f"{path.name} does not hold what was written")
    except (OSError, EOFError, zlib.error, struct.error, ValueError, TypeError, KeyError) as error:
        raise BrokenBackup(f"{path.name} can't be read ({error.__class__.__name__})") from error


def _put(file: gzip.GzipFile, piece: Optional[bytes]) -> None:
    file.write(_LENGTH.pack(_NONE if piece is None else len(piece)) + (piece or b""))


def _get(file: gzip.GzipFile) -> Any:
    """Return the next piece: its bytes, None for a piece that is null, or _END after the last record."""
    length = _LENGTH.unpack(file.read(_LENGTH.size))[0]
    if length in (_NONE, _END):
        return None if length == _NONE else _END
    if not 0 <= length <= MAX_PIECE_BYTES:
        raise ValueError("no length")
    piece = file.read(length)
    if len(piece) != length:
        raise EOFError
    return piece
