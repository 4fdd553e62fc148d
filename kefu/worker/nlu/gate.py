"""Which patterns a text can meet at all, told by single tokens: most texts can meet none.

spaCy asks every pattern at every token, in Python where a pattern has a list or an expression: 0.3 ms
a message. So each pattern has a trigger, the rarest in the training phrases of the tokens that it
can't do without, and is asked only where the text has such a token.
"""

import json
import re
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

PHRASES = "phrases"  # the group of all patterns that are words, not tokens
_REMEMBERED = 20_000  # tokens whose groups are known; most messages say the same words
_FREQUENT = 3_000


def group(pattern: Dict[str, Any]) -> str:
    """Return the name of the patterns that are asked together."""
    return PHRASES if isinstance(pattern["pattern"], str) else pattern["label"]


def opening(patterns: List[Dict[str, Any]], texts: Iterable[List[str]], split: Callable[[str], Any]) -> Dict[str, Any]:
    """Return what a gate is made of: each pattern's trigger, and the tokens worth knowing beforehand.

    Args:
        patterns: the designers'.
        texts: the training phrases' tokens.
        split: from words to (token, start), for patterns that are words.
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
    """Return the tokens that every match has and that can be told here."""
    if isinstance(pattern, str):
        return [{"LOWER": token.lower()} for token, _ in split(pattern)]
    return [spec for spec in pattern if spec.get("OP", "1") in ("1", "+") and _test(spec) is not None]


def _test(spec: Dict[str, Any]) -> Optional[Callable[[str], Any]]:
    """Return what tells whether a token meets a spec; None for one that only spaCy can tell."""
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
    """Tells, for a text's tokens, the groups of patterns that it can meet."""

    def __init__(self, patterns: List[Dict[str, Any]], triggers: List[str]) -> None:
        """Compile the triggers, each once for the groups that share it."""
        shared: Dict[str, Set[str]] = {}
        for pattern, trigger in zip(patterns, triggers, strict=True):
            shared.setdefault(trigger, set()).add(group(pattern))
        self._always: frozenset[str] = frozenset()
        # A new token (an order number, say) is looked up, not compared with each of some hundred words.
        self._words: Dict[str, Dict[str, frozenset[str]]] = {"LOWER": {}, "TEXT": {}}
        self._expressions: List[Tuple[Callable[[str], Any], frozenset[str]]] = []
        for trigger, groups in shared.items():
            self._add(json.loads(trigger), frozenset(groups))
        self._known: Dict[str, frozenset[str]] = {}

    def open_for(self, tokens: List[Tuple[str, int]]) -> List[str]:
        """Return the groups to ask, in a fixed order."""
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
    """Return the words of a spec that is met by words; None for another."""
    wanted = spec.get("LOWER", spec.get("TEXT"))
    if isinstance(wanted, str):
        return {wanted}
    return set(wanted["IN"]) if wanted and set(wanted) == {"IN"} else None
