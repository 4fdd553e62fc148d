"""One backup after the other in one folder, each in a folder named by its time (UTC); the oldest go."""

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable, Dict, List

from kefu.settings import KafkaSettings
from kefu.tools.backup.topics import CONTENTS, save

KEEP = 3
NAME = "%Y-%m-%dT%H%M%SZ"
# What is not finished by then was cut off. Longer than a backup may take in the chart.
UNFINISHED = timedelta(hours=12)


def rotate(kafka: KafkaSettings, parent: Path, keep: int, tell: Callable[[str], None] = print) -> Dict[str, int]:
    """Save into a new folder of `parent`; returns records by topic. Blocks.

    Old backups go only after the new one is finished, so that nights without one take none away. Remains of one that
    was cut off go before: they are no backup, and take its room.

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
    """Return the folders of backups, the oldest first; whatever else lies there is nobody's to touch."""
    found = [folder for folder in parent.iterdir() if folder.is_dir() and _is_named(folder)]
    return sorted(folder for folder in found if (folder / CONTENTS).exists() == finished)


def _is_named(folder: Path) -> bool:
    try:
        return bool(_time(folder))
    except ValueError:
        return False


def _time(folder: Path) -> datetime:
    return datetime.strptime(folder.name, NAME).replace(tzinfo=timezone.utc)


def _remove(folder: Path, tell: Callable[[str], None]) -> None:
    (folder / CONTENTS).unlink(missing_ok=True)  # first: what is left when this is cut off is no backup
    shutil.rmtree(folder)
    tell(f"{folder.name} is removed")
