"""The model card's text, from its figures alone."""

from collections.abc import Sequence
from typing import Any

_PAIRS = 12
_LANGUAGES = {"zh": "Chinese", "en": "English"}
_LIMITS = """\
## Limits

- Chinese (both scripts) and English. Another of the encoder's sixteen languages is understood by what sentences mean
  alone, and was not measured. Cantonese and dialects in writing were not measured either.
- The held-out phrases were written apart from the training phrases, but for this project: real customers will say
  other things. After a first measurement the kinds of English phrases that failed (short colloquial talk, bare
  answers, others' services asked for in a shop's words) got more training phrases: the held-out figures are rosier
  since. Cross-validated ones are of models that had four fifths of the phrases.
- What lies outside the shop but is said in a shop's words ("invoice for my hotel") may pass for in scope.
- The held-out sentences showed what to mend in the entities' patterns; before they were looked at, F1 was 0.95 and more
  for numbers, phones, e-mail, cards, dates, times and goods, 0.92 for amounts, 0.90 for cities, 0.82 for quantities,
  0.76 for names and 0.61 for addresses. Expect something between on other sentences.
- Goods and cities are lists (`data/entities`), a person's name is read after words that announce one.
- Confidence tells how often an intent is right among phrases like these; it says nothing of a text in another language.
"""


def written(figures: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    parts = [_head(figures), _intents(figures), _by_intent(figures), _entities(figures), _cost(figures), _LIMITS]
    return "\n".join(parts)


def _head(figures: dict[str, Any]) -> str:
    data = figures["data"]
    counts = ", ".join(f"{count:,} {_LANGUAGES.get(name, name)}" for name, count in sorted(data["phrases"].items()))
    return f"""\
# Model card

Written by `make card` from the trained model; the figures are in `model-card.json`. How it works, and what
else was tried: [record 14](decisions/0014-understanding.md).

- **What for**: the intent and the entities of a customer's message to a shop, in Chinese and English.
- **Training data**: `data/nlu`, written for this project: {data["intents"]} intents; phrases:
  {counts}. No public set, no customer's words.
- **Held-out data**: `tests/dialogue`, {figures["held_out"]["intents"]["phrases"]:,} phrases, never trained or tuned on.
"""


def _intents(figures: dict[str, Any]) -> str:
    crossed, held = figures["cross_validated"], figures["held_out"]["intents"]
    rows = [
        (f"Accuracy, {name}", _share(crossed, language), held["accuracy"][language])
        for language, name in _LANGUAGES.items()
    ]
    for name, key in (
        ("Out of scope caught", "out_of_scope_caught"),
        ("In scope lost", "in_scope_lost"),
        ("Expected calibration error", "calibration_error"),
    ):
        rows.append((name, crossed.get(key), held[key]))
    lines = [f"| {name} | {_percent(one)} | {_percent(other)} |" for name, one, other in rows]
    pairs = [f"| {pair} | {count} |" for pair, count in held["confusions"][:_PAIRS]]
    return "\n".join(
        [
            "## Intents",
            "",
            "| | cross-validated | held-out |",
            "|---|---|---|",
            *lines,
            "",
            "Caught and lost count what is taken for `out_of_scope` or `nlu_fallback`.",
            "",
            "Most frequent confusions, held-out:",
            "",
            "| meant -> taken for | times |",
            "|---|---|",
            *pairs,
            "",
        ]
    )


def _by_intent(figures: dict[str, Any]) -> str:
    rows = []
    for intent, counts in sorted(figures["cross_validated"]["by_intent"].items()):
        cells = [
            _percent(right / tried) if tried else "-" for right, tried in (counts.get(k, (0, 0)) for k in _LANGUAGES)
        ]
        rows.append(f"| {intent} | {sum(tried for _, tried in counts.values())} | {' | '.join(cells)} |")
    head = ["## Each intent, cross-validated", "", "| intent | phrases | Chinese | English |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _entities(figures: dict[str, Any]) -> str:
    found = figures["held_out"]["entities"].items()
    rows = [f"| {sort} | {each['wanted']} | {each['f1']:.3f} |" for sort, each in found]
    return "\n".join(["## Entities, held-out", "", "| sort | in the sentences | F1 |", "|---|---|---|", *rows, ""])


def _cost(figures: dict[str, Any]) -> str:
    sizes = sorted(figures["cpu_ms"], key=int, reverse=True)
    polls = ", ".join(f"{figures['cpu_ms'][size]:.2f} ms in polls of {size}" for size in sizes)
    memory, start = figures["footprint"]["rss_mb"], figures["footprint"]["cpu_s"]
    return f"""\
## Cost

CPU a message, the whole pipeline with entities: {polls}.

A process with the model loaded as the worker loads it: {memory:.0f} MB, after {start:.1f} s of CPU.

Measured on {figures["machine"]}.
"""


def _share(scores: dict[str, Any], language: str) -> float | None:
    counts = [each[language] for each in scores["by_intent"].values() if language in each]
    return _ratio((sum(right for right, _ in counts), sum(tried for _, tried in counts)))


def _ratio(counts: Sequence[int]) -> float | None:
    right, tried = counts
    return right / tried if tried else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
