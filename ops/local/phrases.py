"""Reads the intents' phrases from a file of training data, in both of Rasa's forms: lines, and a list with metadata."""

from pathlib import Path
from typing import Any, Iterator, List, Tuple

import yaml

# PyYAML's parser in C takes a tenth of the time; a build of PyYAML may lack it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def of_file(file: Path) -> Iterator[Tuple[str, str]]:
    """Yield (intent, phrase) in the file's order. Lookups, synonyms and regular expressions are skipped."""
    content = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER) or {}  # noqa: S506 - safe
    for each in content.get("nlu") or []:
        if "intent" in each:
            yield from ((each["intent"], text) for text in _texts(each.get("examples") or ""))


def _texts(examples: Any) -> List[str]:
    if isinstance(examples, str):
        return [line.strip()[1:].strip() for line in examples.splitlines() if line.strip().startswith("-")]
    return [each["text"].strip() if isinstance(each, dict) else str(each).strip() for each in examples]
