"""`python -m ops.understanding.heldout MODEL`: measures a model on the held-out phrases. Runs under Rasa's Python.

Prints JSON: accuracy of intents by language, out of scope, calibration, pairs of confused intents, F1 of each sort of
entity.
"""

import json
import logging
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import yaml

from kefu.privacy import mask
from kefu.worker.nlu.scores import languages
from kefu.worker.nlu.tuning import calibration_error

DIALOGUE = Path(__file__).resolve().parents[2] / "tests" / "dialogue"
OUT_OF_SCOPE, FALLBACK = "out_of_scope", "nlu_fallback"
SATURDAY = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=8)))  # the time of the sentences with entities
PERSONAL = {"phone", "email", "id_card", "bank_card"}  # entities that are compared as the gateway masks them
_POLL = 64  # how many texts are parsed at a time


def main() -> None:
    """Load the model, parse the held-out phrases, print the figures."""
    logging.disable(logging.WARNING)
    processor = _processor(sys.argv[1])
    print(json.dumps({"intents": _intents(processor), "entities": _entities(processor)}, ensure_ascii=False))


def _processor(path: str) -> Any:
    from rasa.core.lock_store import InMemoryLockStore
    from rasa.core.nlg import TemplatedNaturalLanguageGenerator
    from rasa.core.tracker_store import InMemoryTrackerStore

    from kefu.worker.engine.model import LoadedModel
    from kefu.worker.engine.processor import TurnProcessor

    model = LoadedModel.from_path(path)
    domain = model.metadata.domain
    generator = TemplatedNaturalLanguageGenerator(domain.responses)
    stores = {"tracker_store": InMemoryTrackerStore(domain), "lock_store": InMemoryLockStore()}
    return TurnProcessor(model, generator=generator, **stores)


def _parse(processor: Any, texts: List[str]) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = []
    for at in range(0, len(texts), _POLL):
        poll = texts[at : at + _POLL]
        found += processor.parse_batch("held-out", poll, [SATURDAY.timestamp()] * len(poll))
    return found


def _intents(processor: Any) -> Dict[str, Any]:
    file = yaml.safe_load((DIALOGUE / "nlu_heldout.yml").read_text(encoding="utf-8"))
    phrases = [(each["intent"], line[2:]) for each in file["nlu"] for line in each["examples"].splitlines()]
    texts = [text for _, text in phrases]
    parsed = _parse(processor, texts)
    meant = np.array([intent for intent, _ in phrases])
    likeliest = [next(each for each in one["intent_ranking"] if each["name"] != FALLBACK) for one in parsed]
    taken = np.array([each["name"] for each in likeliest])
    confidence = np.array([each["confidence"] for each in likeliest])
    refused = np.array([one["intent"]["name"] in (OUT_OF_SCOPE, FALLBACK) for one in parsed])
    outside = meant == OUT_OF_SCOPE
    said = np.array(languages(texts))
    wrong = np.flatnonzero(meant != taken)
    return {
        "accuracy": {each: _share((meant == taken)[said == each]) for each in ("zh", "en")},
        "out_of_scope_caught": _share(refused[outside]),
        "in_scope_lost": _share(refused[~outside]),
        "calibration_error": calibration_error(confidence, meant == taken),
        "confusions": Counter(f"{meant[at]} -> {taken[at]}" for at in wrong).most_common(),
        "missed": [[texts[at], str(meant[at]), str(taken[at])] for at in wrong],
        "phrases": len(phrases),
    }


def _share(among: np.ndarray) -> float:
    return float(among.mean())


def _entities(processor: Any) -> Dict[str, Any]:
    """Return for each sort of entity how many were right, wanted and got, its F1, and the missed ones."""
    sentences = yaml.safe_load((DIALOGUE / "nlu_heldout_entities.yml").read_text(encoding="utf-8"))
    sorts = sorted({entity["entity"] for each in sentences for entity in each["entities"]})
    wanted: Counter = Counter()
    got: Counter = Counter()
    for each, parsed in zip(sentences, _parse(processor, [each["text"] for each in sentences]), strict=True):
        wanted.update((each["text"], *value(entity)) for entity in each["entities"])
        got.update((each["text"], *value(entity)) for entity in parsed["entities"] if entity["entity"] in sorts)
    return {sort: _f1(wanted, got, sort) for sort in sorts}


def _f1(wanted: Counter, got: Counter, sort: str) -> Dict[str, Any]:
    wanted, got = (Counter({key: count for key, count in each.items() if key[1] == sort}) for each in (wanted, got))
    counts = {"right": (wanted & got).total(), "wanted": wanted.total(), "got": got.total()}
    missed = [list(key) for key in (wanted - got) + (got - wanted)]
    return {**counts, "f1": 2 * counts["right"] / (counts["wanted"] + counts["got"]), "missed": missed}


def value(entity: Dict[str, Any]) -> Tuple[str, str]:
    """Return an entity's sort and value for the comparison. A personal value is masked as by the gateway."""
    found = mask(entity["value"]) if entity["entity"] in PERSONAL else entity["value"]
    return entity["entity"], "*" + found[-4:] if entity["entity"] == "phone" else str(found)


if __name__ == "__main__":
    main()
