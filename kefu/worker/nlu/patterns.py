"""Matches the designers' patterns (`data/entities/*.jsonl`) by spaCy.

A line has the form of spaCy's entity ruler: `label` is the entity's name; `pattern` is the text to match, or a list of
token specifications; `id` is the entity's value, or the rule that computes the value from the matched words.
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from kefu.errors import DesignError
from kefu.worker.nlu.gate import PHRASES, Gate, group
from kefu.worker.nlu.text import HAN, LATIN

# Of repeated signs and numerals one token each: patterns need no open repetition, whose matches grow by the square.
_TOKEN = re.compile(
    r"[A-Za-z0-9._%+*-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}|\[(?:email|id-card)\]|\*{4,}"
    r"|(?<![\d.])\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?![\d/.-])|(?<![\d:])\d{1,2}:\d{2}(?::\d{2})?(?![\d:])"
    r"|(?<![\d/])\d{1,2}/\d{1,2}(?![\d/])|(?<!\d)\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[零〇一二两三四五六七八九十百千万]+"
    rf"|[{LATIN}]+(?:['’][{LATIN}]+)*|[{HAN}]|[^\s\w]|\w"
)


Token = Tuple[str, int]  # a token and where it starts


class Match(NamedTuple):
    """A match of a pattern: the entity's name, the pattern's id, start and end in the text."""

    label: str
    id: str
    start: int
    end: int


def read(folder: Path) -> List[Dict[str, Any]]:
    """Return the patterns in a folder's files, by name and line.

    Raises:
        DesignError: there are none, or a line is not a pattern; says which.
    """
    found = [each for file in sorted(folder.glob("*.jsonl")) for each in _lines(file)]
    if not found:
        raise DesignError(f"{folder} has no patterns: it needs files *.jsonl, see CONTRIBUTING.md")
    return found


def _lines(file: Path) -> List[Dict[str, Any]]:
    patterns = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            pattern = json.loads(line)
            sound = isinstance(pattern["label"], str) and pattern["pattern"] and isinstance(pattern["id"], str)
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            raise DesignError(f'{file.name}, line {number}: not {{"label": ..., "pattern": ..., "id": ...}}')
        patterns.append(pattern)
    return patterns


def split(text: str) -> List[Token]:
    """Return the text's tokens (token, start), as patterns are matched against them."""
    return [(found.group(), found.start()) for found in _TOKEN.finditer(text)]


class PatternMatcher:
    """Returns all matches of all patterns. They may overlap; the caller chooses among them."""

    def __init__(self, patterns: List[Dict[str, Any]], gate: Dict[str, Any]) -> None:
        """Prepare the patterns. Blocks for about a second, nearly all of it spaCy's import.

        Args:
            patterns: as `read` returns them.
            gate: as `opening` made it in training.

        Raises:
            ValueError: spaCy can't read a pattern.
        """
        import spacy
        from spacy.matcher import Matcher, PhraseMatcher
        from spacy.tokens import Doc

        self._doc = Doc
        self._nlp = spacy.blank("xx")
        self._gate = Gate(patterns, gate["triggers"])
        self._named = [(each["label"], each["id"]) for each in patterns]
        # One matcher for each label, so that only those are run whose patterns the text can match (see `gate`).
        self._matchers: Dict[str, Any] = {}
        for number, each in enumerate(patterns):
            kind = group(each)
            if kind == PHRASES:
                matcher = self._matchers.setdefault(kind, PhraseMatcher(self._nlp.vocab, attr="LOWER"))
                matcher.add(str(number), [self._document(split(each["pattern"]))])
            else:
                matcher = self._matchers.setdefault(kind, Matcher(self._nlp.vocab, validate=True))
                matcher.add(str(number), [each["pattern"]], greedy="LONGEST")
        for word in gate["frequent"]:
            self._nlp.vocab[
                word
            ]  # keeps the word in spaCy's vocabulary: computing its attributes takes longer than matching it

    def find(self, folded: List[str]) -> List[List[Match]]:
        """Return the matches in each text of half-width forms and simplified characters."""
        # Without this, spaCy would keep every word it has ever seen in memory, such as all order numbers.
        with self._nlp.memory_zone():
            return [self._find(split(text)) for text in folded]

    def _find(self, tokens: "List[Token]") -> List[Match]:
        kinds = self._gate.open_for(tokens)
        if not kinds:
            return []
        document = self._document(tokens)
        strings = self._nlp.vocab.strings
        return [
            Match(*self._named[int(strings[key])], tokens[start][1], tokens[end - 1][1] + len(tokens[end - 1][0]))
            for kind in kinds
            for key, start, end in self._matchers[kind](document)
        ]

    def _document(self, tokens: "List[Token]") -> Any:
        return self._doc(self._nlp.vocab, words=[word for word, _ in tokens])
