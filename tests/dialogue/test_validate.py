"""`rasa data validate` exits 0 with warnings: its output is held against the accepted ones."""

import re
from pathlib import Path

ACCEPTED = Path(__file__).with_name("accepted_warnings.txt")
_WARNING = re.compile(r"UserWarning: (.+)")


def test_validate_warns_of_nothing_but_what_is_accepted(rasa) -> None:
    ended = rasa("data", "validate")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    accepted = {line for line in ACCEPTED.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"}
    found = {_without_colours(text) for text in _WARNING.findall(ended.stdout + ended.stderr)}
    assert found - accepted == set(), "new warnings"
    assert accepted - found == set(), "accepted, but no longer there: take them out"


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", text).strip()
