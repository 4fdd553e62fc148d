"""The arguments of `python -m kefu dlq`, checked before any connection is made."""

import argparse
import re
from typing import List, Optional

from kefu.tools.dlq.letters import Position, Wanted
from kefu.tools.options import count, moment

_EPILOG = """\
A letter is named by its place, PARTITION:OFFSET. Times are 90s, 15m, 2h, 7d (ago) or ISO 8601, UTC
where no zone is given. Exit codes: 0 done, 1 some of it was refused, not found or not
acknowledged, 2 wrong words or settings, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments; it ends the process with exit code 2 for wrong ones."""
    command = argparse.ArgumentParser("python -m kefu dlq", description="Dead letters.", epilog=_EPILOG)
    verbs = command.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="name the letters, oldest first in each partition; never their text")
    _add_filters(listing)
    listing.add_argument("--all", action="store_true", help="also those that were replayed or dropped")
    listing.add_argument("--limit", type=count, default=0, metavar="N", help="at most so many")
    showing = verbs.add_parser("show", help="show letters whole: headers and value, masked")
    showing.add_argument("positions", nargs="+", type=_position, metavar="PARTITION:OFFSET")
    for verb, what in (("replay", "send letters' messages again"), ("drop", "mark letters as done with")):
        _add_handling(verbs.add_parser(verb, help=what))
    for sub in verbs.choices.values():
        sub.epilog = _EPILOG
        sub.add_argument("--json", action="store_true", help="one JSON object a line")
    return command


def wanted(options: argparse.Namespace) -> Wanted:
    """Return the filter that the arguments describe."""
    return Wanted(
        frozenset(options.error_class),
        options.since,
        options.until,
        options.tenant,
        options.conversation,
        getattr(options, "all", False) or getattr(options, "again", False),
    )


def filtered(options: argparse.Namespace) -> bool:
    """Return whether letters are chosen by filters rather than named by position."""
    given = (options.error_class, options.since, options.until, options.tenant, options.conversation)
    return any(each not in (None, "", []) for each in given) or getattr(options, "matching_all", False)


def _add_filters(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--error-class", action="append", default=[], metavar="CLASS", help="of this class; may be repeated"
    )
    sub.add_argument("--since", type=moment, metavar="TIME", help="put aside at this time or later")
    sub.add_argument("--until", type=moment, metavar="TIME", help="put aside before this time")
    sub.add_argument("--tenant", default="", help="of this tenant")
    sub.add_argument("--conversation", default="", metavar="TENANT:USER", help="of this conversation")


def _add_handling(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("positions", nargs="*", type=_position, metavar="PARTITION:OFFSET")
    _add_filters(sub)
    sub.add_argument("--matching-all", action="store_true", help="every letter that is open")
    sub.add_argument("--yes", action="store_true", help="don't ask")
    sub.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    sub.add_argument("--again", action="store_true", help="also what was replayed or dropped before")
    sub.add_argument("--note", type=_note, default="", help="why; kept with the letter and in the audit")


def _position(raw: str) -> Position:
    if not re.fullmatch(r"\d{1,9}:\d{1,18}", raw):
        raise argparse.ArgumentTypeError(f"{raw!r} is not PARTITION:OFFSET")
    partition, offset = raw.split(":")
    return Position(int(partition), int(offset))


def _note(raw: str) -> str:
    if len(raw) > 500:
        raise argparse.ArgumentTypeError("a note has at most 500 characters")
    return raw


def problem(options: argparse.Namespace) -> Optional[str]:
    """Return why the arguments of a replay or drop don't fit together, as a sentence; None if they do."""
    named: List[Position] = options.positions
    if named and filtered(options):
        return "name letters or choose them by filters, not both"
    if not named and not filtered(options):
        return "which letters? name them, choose them by filters, or say --matching-all"
    return None
