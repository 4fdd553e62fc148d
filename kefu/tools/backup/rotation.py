"""Keeps the newest backups in one folder, each in a subfolder named by its time (UTC), and removes older ones."""

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable, Dict, List

from kefu.settings import KafkaSettings
from kefu.tools.backup.topics import CONTENTS, save

KEEP = 3  # how many finished backups stay by default; older ones are removed
NAME = "%Y-%m-%dT%H%M%SZ"  # the name of a backup's folder: its time in UTC
# An unfinished backup older than this was interrupted. The chart allows a backup less time than this.
UNFINISHED = timedelta(hours=12)


def rotate(kafka: KafkaSettings, parent: Path, keep: int, tell: Callable[[str], None] = print) -> Dict[str, int]:
    """Save into a new folder of `parent`; returns the number of records by topic. Blocks.

    Old backups are removed only after the new one is finished, so that failing nights remove none. Remains of
    interrupted backups are removed before: they can't be restored, and the new backup needs their room.

    Raises:
        QueueUnavailable, OSError: there is no new backup, and no old one was removed.
    """
    now = datetime.now(timezone.utc)
    for folder in backups(parent, finished=False):
        if now - _time(folder) > UNFINISHED:
            _remove(folder, tell)
    saved = save(kafka, parent / now.strftime(NAME), tell)
    for folder in backups(parent, finished=True)[:-keep]:
        _remove(folder, tell)
    return saved


def backups(parent: Path, finished: bool) -> List[Path]:
    """Return the finished or the unfinished backups in `parent`, the oldest first; other folders are left alone."""
    folders = [folder for folder in parent.iterdir() if folder.is_dir() and _is_named(folder)]
    return sorted(folder for folder in folders if (folder / CONTENTS).exists() == finished)


def _is_named(folder: Path) -> bool:
    try:
        return bool(_time(folder))
    except ValueError:
        return False


def _time(folder: Path) -> datetime:
    return datetime.strptime(folder.name, NAME).replace(tzinfo=timezone.utc)


def _remove(folder: Path, tell: Callable[[str], None]) -> None:
    (folder / CONTENTS).unlink(missing_ok=True)  # goes first, so that an interrupted removal leaves no finished backup
    shutil.rmtree(folder)
    tell(f"{folder.name} is removed")
