"""Selects the entity patterns that a text can match at all, by its single tokens. Most texts can match none.

spaCy tries every pattern at every token, in Python if a pattern has a list or a regular expression, which takes 0.3 ms
a message. So each pattern has a trigger: of the tokens that every match of it contains, the one that is rarest in the
training phrases. A pattern is tried only on texts that contain its trigger.
"""

import json
import re
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

PHRASES = "phrases"  # the group of all patterns that are given as text, not as a list of token specifications
_REMEMBERED = 20_000  # limits the tokens whose groups are kept in memory; beyond it all are forgotten
_FREQUENT = 3_000  # the most frequent tokens of the training phrases, whose groups are computed at the start


def group(pattern: Dict[str, Any]) -> str:
    """Return the name of the group of patterns that this pattern is tried with."""
    return PHRASES if isinstance(pattern["pattern"], str) else pattern["label"]


def opening(patterns: List[Dict[str, Any]], texts: Iterable[List[str]], split: Callable[[str], Any]) -> Dict[str, Any]:
    """Return the content of a gate: each pattern's trigger, and the most frequent tokens.

    Args:
        patterns: the patterns of the designers' files.
        texts: the tokens of each training phrase.
        split: tokenises a pattern that is given as text, into pairs (token, start).
    """
    counts = Counter(token for text in texts for token in text)
    rarity: Dict[str, int] = {}

    def frequency(spec: str) -> int:
        if spec not in rarity:
            test = _test(json.loads(spec))
            rarity[spec] = sum(count for token, count in counts.items() if test is None or test(token))
        return rarity[spec]

    triggers = []
    for each in patterns:
        needed = [json.dumps(spec, sort_keys=True, ensure_ascii=False) for spec in _needed(each["pattern"], split)]
        triggers.append(min(needed, key=frequency) if needed else "{}")
    return {"triggers": triggers, "frequent": [token for token, _ in counts.most_common(_FREQUENT)]}


def _needed(pattern: Any, split: Callable[[str], Any]) -> List[Dict[str, Any]]:
    """Return the specifications of tokens that every match contains and that `_test` understands."""
    if isinstance(pattern, str):
        return [{"LOWER": token.lower()} for token, _ in split(pattern)]
    return [spec for spec in pattern if spec.get("OP", "1") in ("1", "+") and _test(spec) is not None]


def _test(spec: Dict[str, Any]) -> Optional[Callable[[str], Any]]:
    """Return a function that tells whether a token meets a specification; None if only spaCy can tell."""
    attributes = {name: value for name, value in spec.items() if name != "OP"}
    if len(attributes) != 1 or set(attributes) - {"LOWER", "TEXT"}:
        return None
    name, wanted = next(iter(attributes.items()))
    read: Callable[[str], str] = str.lower if name == "LOWER" else str
    if isinstance(wanted, str):
        return lambda token: read(token) == wanted
    if set(wanted) == {"IN"}:
        words = frozenset(wanted["IN"])
        return lambda token: read(token) in words
    if set(wanted) == {"REGEX"}:
        expression = re.compile(wanted["REGEX"])
        return lambda token: expression.search(read(token))
    return None


class Gate:
    """Returns the groups of patterns that a text can match, by its tokens."""

    def __init__(self, patterns: List[Dict[str, Any]], triggers: List[str]) -> None:
        """Prepare the triggers. A trigger that several groups share is prepared once."""
        shared: Dict[str, Set[str]] = {}
        for pattern, trigger in zip(patterns, triggers, strict=True):
            shared.setdefault(trigger, set()).add(group(pattern))
        self._always: frozenset[str] = frozenset()
        # Words are kept in dicts: a new token, such as an order number, is looked up, not compared with each word.
        self._words: Dict[str, Dict[str, frozenset[str]]] = {"LOWER": {}, "TEXT": {}}
        self._expressions: List[Tuple[Callable[[str], Any], frozenset[str]]] = []
        for trigger, groups in shared.items():
            self._add(json.loads(trigger), frozenset(groups))
        self._known: Dict[str, frozenset[str]] = {}

    def open_for(self, tokens: List[Tuple[str, int]]) -> List[str]:
        """Return the sorted names of the groups whose trigger is among these tokens."""
        found = self._always
        for token, _ in tokens:
            groups = self._known.get(token)
            found = found | (self._learn(token) if groups is None else groups)
        return sorted(found)

    def _add(self, trigger: Dict[str, Any], groups: "frozenset[str]") -> None:
        test, words = _test(trigger), _words(trigger)
        if test is None:
            self._always |= groups
        elif words is None:
            self._expressions.append((test, groups))
        else:
            table = self._words["LOWER" if "LOWER" in trigger else "TEXT"]
            table.update((word, table.get(word, frozenset()) | groups) for word in words)

    def _learn(self, token: str) -> "frozenset[str]":
        groups: frozenset[str] = frozenset().union(*(groups for test, groups in self._expressions if test(token)))
        groups |= self._words["LOWER"].get(token.lower(), frozenset()) | self._words["TEXT"].get(token, frozenset())
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[token] = groups
        return groups


def _words(spec: Dict[str, Any]) -> Optional[Set[str]]:
    """Return the words that a specification lists; None if it is a regular expression."""
    wanted = spec.get("LOWER", spec.get("TEXT"))
    if isinstance(wanted, str):
        return {wanted}
    return set(wanted["IN"]) if wanted and set(wanted) == {"IN"} else None
