"""NLU on phrases that it was not trained on, with a bar for each language."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from phrases import phrases, spoken

from kefu.worker.nlu.language import detect

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "dialogue" / "nlu_heldout.yml"
TRAINING = sorted((ROOT / "data" / "nlu").glob("*.yml"))
BAR = 0.93
CAUGHT, LOST = 0.80, 0.03  # at least this share is refused out of scope, at most that share in scope
ENTITY_BAR = 0.95
DETERMINISTIC = "order_number phone email id_card bank_card amount date time quantity city address product".split()
DETERMINISTIC.append("person_name")
TIMEOUT_S = 200
MIN_TRAINING = 40
MIN_HELD_OUT = 15


def _language(text: str) -> str | None:
    entity = detect(text)
    return entity.value if entity else None


def _counts(*files) -> Counter:
    return Counter((intent, _language(text)) for intent, text in phrases(*files))


@pytest.mark.parametrize("files, least", [(TRAINING, MIN_TRAINING), ([HELD_OUT], MIN_HELD_OUT)])
def test_every_intent_has_enough_phrases_in_both_languages(files, least) -> None:
    """At least 40 to train on and 15 held out, in each language."""
    counts = _counts(*files)
    intents = {intent for intent, _ in phrases(*TRAINING)}
    few = {(intent, lang) for intent in intents for lang in ("zh", "en") if counts[intent, lang] < least}
    assert few == set()


def test_held_out_phrases_are_not_trained_on() -> None:
    trained = {spoken(text) for _, text in phrases(*TRAINING)}
    assert {text for _, text in phrases(HELD_OUT) if spoken(text) in trained} == set()


def test_model_card_is_of_the_present_data() -> None:
    """The numbers of intents and phrases must be those of the data."""
    card = json.loads((ROOT / "ops" / "model-card.json").read_text(encoding="utf-8"))
    counts = Counter(_language(text) or "other" for _, text in phrases(*TRAINING))
    intents = {intent for intent, _ in phrases(*TRAINING)}
    assert card["data"] == {"intents": len(intents), "phrases": dict(counts)}, "make card"
    assert set(card["cross_validated"]["by_intent"]) == intents, "make card"
    assert card["held_out"]["intents"]["phrases"] == len(list(phrases(HELD_OUT))), "make card"


def test_model_card_equals_a_new_cross_validation() -> None:
    """Scores may differ by 0.3 points, because processors round differently.

    Where `inputs` differ, every first start cross-validates.
    """
    command = [ROOT / ".local" / "worker" / "bin" / "python", "-W", "ignore", "-m", "ops.understanding.crossed"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    result = json.loads(ended.stdout.splitlines()[-1])
    card = json.loads((ROOT / "ops" / "model-card.json").read_text(encoding="utf-8"))
    assert card["inputs"] == result["inputs"], "make card"
    assert card["tuning"]["least"] == pytest.approx(result["tuning"]["least"], abs=0.03), "make card"
    for name in ("accuracy", "in_scope_lost", "out_of_scope_caught", "calibration_error"):
        assert card["cross_validated"][name] == pytest.approx(result["cross_validated"][name], abs=0.003), "make card"


@pytest.fixture(scope="module")
def heldout(model: Path) -> dict:
    """Return the model's scores and confusions on the held-out phrases and sentences."""
    command = [ROOT / ".local" / "worker" / "bin" / "python", "-W", "ignore", "-m", "ops.understanding.heldout", model]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr[-5000:]
    return json.loads(ended.stdout)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_intents_of_held_out_phrases_are_recognised(heldout: dict, language: str) -> None:
    """The accuracy in each language is at least BAR."""
    scores = heldout["intents"]
    assert scores["phrases"] == len(list(phrases(HELD_OUT)))
    assert scores["accuracy"][language] >= BAR, scores["confusions"]


def test_out_of_scope_phrases_are_refused_in_scope_ones_kept(heldout: dict) -> None:
    """NLU refuses at least 80 % of the phrases out of scope and at most 3 % of those in scope."""
    scores = heldout["intents"]
    assert scores["out_of_scope_caught"] >= CAUGHT, scores["missed"]
    assert scores["in_scope_lost"] <= LOST, scores["missed"]


@pytest.mark.parametrize("sort", DETERMINISTIC)
def test_entities_of_held_out_sentences_are_recognised(heldout: dict, sort: str) -> None:
    """The F1 score of each sort of entity is at least ENTITY_BAR."""
    scores = heldout["entities"][sort]
    assert scores["f1"] >= ENTITY_BAR, scores["missed"]


def test_every_sort_of_held_out_entity_has_a_bar(heldout: dict) -> None:
    """A sort that is missing from DETERMINISTIC would not be checked."""
    assert set(heldout["entities"]) == set(DETERMINISTIC)
