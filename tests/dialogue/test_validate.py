"""`rasa data validate` ends with 0 in spite of warnings, so its warnings are compared with the accepted ones."""

import re
import shutil
import subprocess
from pathlib import Path

from ops.local import intent

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED = Path(__file__).with_name("accepted_warnings.txt")
_WARNING = re.compile(r"UserWarning: (.+)")


def test_rasa_data_validate_gives_exactly_the_accepted_warnings(rasa) -> None:
    warnings, accepted = _warnings(rasa("data", "validate")), _accepted()
    assert warnings - accepted == set(), "new warnings"
    assert accepted - warnings == set(), "accepted, but no longer given: remove them"


def test_filled_in_stubs_of_make_intent_pass_rasa_data_validate(rasa, tmp_path) -> None:
    """`make intent` runs on a copy of the project, and each placeholder is replaced by a text of its own."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "domain.yml", tmp_path)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    shutil.copytree(ROOT / "tests" / "dialogue", tmp_path / "tests" / "dialogue")
    assert intent.main(["stub_of_a_test", "--topic", "refunds"], tmp_path) == 0
    for number, path in enumerate(sorted(tmp_path.rglob("*.yml"))):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(intent.PLACEHOLDER, f"filled in {number}"), encoding="utf-8")
    ended = rasa("data", "validate", "--domain", tmp_path / "domain.yml", "--data", tmp_path / "data")
    assert _warnings(ended) - _accepted() == set()


def _warnings(ended: subprocess.CompletedProcess) -> set[str]:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {_without_colours(text) for text in _WARNING.findall(ended.stdout + ended.stderr)}


def _accepted() -> set[str]:
    return {line for line in ACCEPTED.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"}


def _without_colours(text: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", text).strip()
