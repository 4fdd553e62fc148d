"""`python -m ops.local.training MODEL`: prints what a training has changed. Runs under Rasa's Python.

It prints which training data are new or gone since the last training here, and the cross-validated scores of each
intent and language beside the committed scores (`ops/model-card.json`, see `make card`).
"""

import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ops.local.phrases import of_file

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "ops" / "model-card.json"
SEEN = ROOT / ".local" / "stamps" / "model-data.json"
LANGUAGES = ("zh", "en")
_NO_DIFFERENCE = 0.05  # percentage points; a smaller difference of scores is printed as equal

Scores = Dict[str, Any]


def main(model: str) -> None:
    """Print the report, and remember the present training data for the next report."""
    before: Optional[Dict[str, Any]] = json.loads(SEEN.read_text()) if SEEN.is_file() else None
    now = snapshot(ROOT)
    for line in changes(before, now):
        print(f"  {line}")
    scores = stored(Path(model))
    committed = json.loads(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.is_file() else {}
    for line in table(scores, committed.get("cross_validated", {})):
        print(f"  {line}")
    SEEN.parent.mkdir(parents=True, exist_ok=True)
    SEEN.write_text(json.dumps(now))


def snapshot(root: Path) -> Dict[str, Any]:
    """Return hashes of the training data, for a comparison: of each intent's phrases, and of the other files."""
    phrases: Dict[str, List[str]] = {}
    for file in sorted((root / "data" / "nlu").rglob("*.yml")):
        for intent, text in of_file(file):
            phrases.setdefault(intent, []).append(_hash(text.encode()))
    others = [root / "config.yml", root / "domain.yml"]
    others += [path for path in sorted((root / "data").rglob("*.*")) if path.parent.name != "nlu"]
    others += sorted((root / "kefu" / "worker" / "nlu").glob("*.py"))
    files = {str(path.relative_to(root)): _hash(path.read_bytes()) for path in others if path.is_file()}
    return {"phrases": phrases, "files": files}


def changes(before: Optional[Dict[str, Any]], now: Dict[str, Any]) -> Iterator[str]:
    """Yield a line for each intent and file that has changed; `before` is None for the first training."""
    if before is None:
        count = sum(map(len, now["phrases"].values()))
        yield f"first training here: {count} phrases of {len(now['phrases'])} intents"
        return
    changed = False
    for intent in sorted(now["phrases"].keys() | before["phrases"].keys()):
        new, old = set(now["phrases"].get(intent, [])), set(before["phrases"].get(intent, []))
        if new != old:
            changed = True
            yield f"{intent}: {len(new - old)} phrases new, {len(old - new)} gone"
    for name in sorted(now["files"].keys() | before["files"].keys()):
        if now["files"].get(name) != before["files"].get(name):
            changed = True
            state = "gone" if name not in now["files"] else "changed" if name in before["files"] else "new"
            yield f"{name} {state}"
    if not changed:
        yield "no data changed since the last training"


def stored(model: Path) -> Scores:
    """Return the cross-validated scores that a model's intent classifier keeps; empty if it keeps none."""
    with tarfile.open(model) as archive:
        for member in archive:
            if member.name.endswith("/model.json") and "IntentClassifier" in member.name:
                content = archive.extractfile(member)
                return json.load(content).get("cross_validated", {}) if content else {}
    return {}


def table(scores: Scores, committed: Scores) -> Iterator[str]:
    """Yield lines: each intent's share of correct phrases by language, and its difference to the committed share."""
    if not scores.get("by_intent"):
        yield "the model keeps no cross-validated scores"
        return
    yield f"{'cross-validated, %':<28}" + "".join(f"{language:>16}" for language in LANGUAGES) + "   (since committed)"
    rows = [("all", _total(scores), _total(committed))]
    old = committed.get("by_intent", {})
    rows += [(intent, counts, old.get(intent, {})) for intent, counts in sorted(scores["by_intent"].items())]
    for name, counts, before in rows:
        yield f"{name:<28}" + "".join(f"{_cell(counts.get(each), before.get(each)):>16}" for each in LANGUAGES)
    for name in ("out_of_scope_caught", "in_scope_lost", "calibration_error"):
        if name in scores:
            yield f"{name:<28}{_points(100 * scores[name], _hundred(committed.get(name))):>16}"
    for intent, taken_for, count in scores["confusions"][:5]:
        yield f"{count} of {intent} taken for {taken_for}"


def _total(scores: Scores) -> Dict[str, Tuple[int, int]]:
    totals = {}
    for language in LANGUAGES:
        counts = [each[language] for each in scores.get("by_intent", {}).values() if language in each]
        if counts:
            totals[language] = (sum(right for right, _ in counts), sum(tried for _, tried in counts))
    return totals


def _cell(counts: Any, before: Any) -> str:
    if not counts or not counts[1]:
        return "-"
    return _points(100 * counts[0] / counts[1], 100 * before[0] / before[1] if before and before[1] else None)


def _hundred(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100 * share


def _points(now: float, before: Optional[float]) -> str:
    if before is None:
        return f"{now:.1f} (new)"
    return f"{now:.1f} (=)" if abs(now - before) < _NO_DIFFERENCE else f"{now:.1f} ({now - before:+.1f})"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    main(sys.argv[1])
