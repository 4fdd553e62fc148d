"""`python -m kefu backup save|rotate|restore FOLDER`: saves Kafka's topics into files, or restores them."""

import argparse
import sys
from pathlib import Path
from typing import List

from kefu.errors import KefuError
from kefu.settings import KafkaSettings
from kefu.tools.backup.rotation import KEEP, rotate
from kefu.tools.backup.topics import restore, save
from kefu.tools.options import count

DONE, FAILED = 0, 1  # exit codes


def main(arguments: List[str]) -> int:
    """Run the command; returns 0, or 1 after printing the reason. Raises SettingsError for a wrong setting."""
    options = _parser().parse_args(arguments)
    kafka = KafkaSettings.from_env()
    try:
        if options.verb == "rotate":
            rotate(kafka, options.folder, options.keep)
        else:
            {"save": save, "restore": restore}[options.verb](kafka, options.folder)
    except (KefuError, OSError) as error:
        print(f"kefu backup {options.verb}: {error}", file=sys.stderr)
        return FAILED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kefu backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, what, folder in (
        ("save", "save the topics", "a new one"),
        ("rotate", "save into a new folder of this one, and remove old backups in it", "of all backups"),
        ("restore", "write a backup into empty topics", "of the backup"),
    ):
        verbs.add_parser(verb, help=what).add_argument("folder", type=Path, help=folder)
    verbs.choices["rotate"].add_argument(
        "--keep", type=count, default=KEEP, metavar="N", help=f"how many backups stay ({KEEP})"
    )
    return parser
