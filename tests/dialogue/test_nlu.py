"""NLU on phrases it was never trained on, a bar for each language."""

import json
from collections import Counter
from pathlib import Path

import pytest
from phrases import phrases

from kefu.worker.nlu.language import detect

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = ROOT / "tests" / "dialogue" / "nlu_heldout.yml"
TRAINING = sorted((ROOT / "data" / "nlu").glob("*.yml"))
BAR = 0.90
MIN_TRAINING = 30
MIN_HELD_OUT = 10


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
    def plain(text: str) -> str:
        return text.lower().strip(" .,!?。，！？～~")

    trained = {plain(text) for _, text in phrases(*TRAINING)}
    assert {text for _, text in phrases(HELD_OUT) if plain(text) in trained} == set()


def test_intents_of_unseen_phrases_are_recognised_in_both_languages(rasa, model, tmp_path) -> None:
    options = ("--nlu", HELD_OUT, "--out", tmp_path, "--successes", "--no-plot")
    ended = rasa("test", "nlu", "--model", model, *options)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-5000:]
    right = Counter(_language(each["text"]) for each in _read(tmp_path / "intent_successes.json"))
    missed = _read(tmp_path / "intent_errors.json")
    wrong = Counter(_language(each["text"]) for each in missed)
    assert right.total() + wrong.total() == len(list(phrases(HELD_OUT)))
    for lang in ("zh", "en"):
        accuracy = right[lang] / (right[lang] + wrong[lang])
        assert accuracy >= BAR, [(each["text"], each["intent_prediction"]["name"]) for each in missed]


def _read(path) -> list[dict]:
    """Return the list in a report; Rasa writes none where there is nothing to list."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
