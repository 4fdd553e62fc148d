"""NLU on phrases it was never trained on, a bar for each language."""

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
CAUGHT, LOST = 0.80, 0.03  # out of scope refused; in scope refused
ENTITY_BAR = 0.95
DETERMINISTIC = "order_number phone email id_card bank_card amount date time quantity city address product".split()
DETERMINISTIC.append("person_name")
TIMEOUT_S = 200
MIN_TRAINING = 40
MIN_HELD_OUT = 15


def _language(text: str) -> str | None:
    found = detect(text)
    return found.value if found else None


def _counts(*files) -> Counter:
    return Counter((intent, _language(text)) for intent, text in phrases(*files))


@pytest.mark.parametrize("files, least", [(TRAINING, MIN_TRAINING), ([HELD_OUT], MIN_HELD_OUT)])
def test_every_intent_has_enough_phrases_in_both_languages(files, least) -> None:
    counts = _counts(*files)
    intents = {intent for intent, _ in phrases(*TRAINING)}
    few = {(intent, lang) for intent in intents for lang in ("zh", "en") if counts[intent, lang] < least}
    assert few == set()


def test_no_held_out_phrase_is_trained_on() -> None:
    trained = {spoken(text) for _, text in phrases(*TRAINING)}
    assert {text for _, text in phrases(HELD_OUT) if spoken(text) in trained} == set()


def test_the_model_card_is_of_this_data() -> None:
    card = json.loads((ROOT / "ops" / "model-card.json").read_text(encoding="utf-8"))
    counts = Counter(_language(text) or "other" for _, text in phrases(*TRAINING))
    intents = {intent for intent, _ in phrases(*TRAINING)}
    assert card["data"] == {"intents": len(intents), "phrases": dict(counts)}, "make card"
    assert set(card["cross_validated"]["by_intent"]) == intents, "make card"
    assert card["held_out"]["intents"]["phrases"] == len(list(phrases(HELD_OUT))), "make card"


def test_the_committed_tuning_is_what_cross_validation_finds() -> None:
    """Within 0.3 points: processors round otherwise. Where `inputs` differ, every first start cross-validates."""
    command = [ROOT / ".local" / "worker" / "bin" / "python", "-W", "ignore", "-m", "ops.understanding.crossed"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    card = json.loads((ROOT / "ops" / "model-card.json").read_text(encoding="utf-8"))
    assert card["inputs"] == found["inputs"], "make card"
    assert card["tuning"]["least"] == pytest.approx(found["tuning"]["least"], abs=0.03), "make card"
    for name in ("accuracy", "in_scope_lost", "out_of_scope_caught", "calibration_error"):
        assert card["cross_validated"][name] == pytest.approx(found["cross_validated"][name], abs=0.003), "make card"


@pytest.fixture(scope="module")
def heldout(model: Path) -> dict:
    """Return what the model makes of the held-out phrases and sentences."""
    command = [ROOT / ".local" / "worker" / "bin" / "python", "-W", "ignore", "-m", "ops.understanding.heldout", model]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr[-5000:]
    return json.loads(ended.stdout)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_intents_of_unseen_phrases_are_recognised(heldout: dict, language: str) -> None:
    found = heldout["intents"]
    assert found["phrases"] == len(list(phrases(HELD_OUT)))
    assert found["accuracy"][language] >= BAR, found["confusions"]


def test_what_is_out_of_scope_is_caught_and_what_is_in_scope_kept(heldout: dict) -> None:
    found = heldout["intents"]
    assert found["out_of_scope_caught"] >= CAUGHT, found["missed"]
    assert found["in_scope_lost"] <= LOST, found["missed"]


@pytest.mark.parametrize("sort", DETERMINISTIC)
def test_entities_of_unseen_sentences_are_read(heldout: dict, sort: str) -> None:
    found = heldout["entities"][sort]
    assert found["f1"] >= ENTITY_BAR, found["missed"]


def test_every_sort_of_entity_in_the_held_out_sentences_has_its_bar(heldout: dict) -> None:
    assert set(heldout["entities"]) == set(DETERMINISTIC)
