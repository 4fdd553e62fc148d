"""The intent classifier: any data set, any text, the same result each time, and across scripts."""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from rasa.engine.storage.local_model_storage import LocalModelStorage
from rasa.engine.storage.resource import Resource
from rasa.shared.nlu.constants import INTENT, INTENT_RANKING_KEY, TEXT
from rasa.shared.nlu.training_data.loading import load_data
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from kefu.worker.nlu.components import MixedTokenizer
from kefu.worker.nlu.intents import CascadeIntentClassifier
from kefu.worker.nlu.text import HAN
from kefu.worker.nlu.vectors import SentenceEncoder

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = MixedTokenizer(MixedTokenizer.get_default_config())
FALLBACK = "nlu_fallback"
EACH = 30  # phrases per intent and script
INTENTS = (
    "track_order get_invoice recover_password newsletter_subscription check_payment_methods greet thank "
    "bot_challenge delete_account out_of_scope"
).split()
STRANGE = ["", "   ", "\n\t", "?", "。", "😀", "😀" * 5_000, "a" * 50_000, "好" * 10_000, "hello " * 3_000]
STRANGE += [
    "\x00",
    "\ud83d",
    "\udc00我的订单",
    "\u202eمرحبا",
    "查order到哪le🙏",
    "１２３",
    "<b>&amp;",
    "ก็",
    "{order_number}",
]

Phrases = List[Tuple[str, str]]


class Trained:
    """A classifier trained on pairs of text and intent, with its stored files."""

    def __init__(self, folder: Path, phrases: Phrases, **config: Any) -> None:
        self.config = {**CascadeIntentClassifier.get_default_config(), **config}
        folder.mkdir(exist_ok=True)
        self.storage, self.resource = LocalModelStorage.create(folder), Resource("intents")
        self.classifier = CascadeIntentClassifier(self.config, self.storage, self.resource)
        data = TrainingData([Message.build(text=text, intent=intent) for text, intent in phrases])
        TOKENIZER.process_training_data(data)
        self.classifier.train(data)

    def loaded(self) -> CascadeIntentClassifier:
        return CascadeIntentClassifier.load(self.config, self.storage, self.resource, None)

    def stored(self) -> Dict[str, Any]:
        with self.storage.read_from(self.resource) as folder:
            arrays = np.load(folder / "weights.npz")
            return {"model": (folder / "model.json").read_bytes(), **{name: arrays[name] for name in arrays.files}}


def _parse(classifier: CascadeIntentClassifier, texts: List[str], poll: int = 64) -> List[Message]:
    messages = [Message(data={TEXT: text}) for text in texts]
    for at in range(0, len(messages), poll):
        classifier.process(TOKENIZER.process(messages[at : at + poll]))
    return messages


def _intents(classifier: CascadeIntentClassifier, texts: List[str]) -> List[str]:
    """Return the most likely intents, even where the fallback would win."""
    rankings = [message.get(INTENT_RANKING_KEY) for message in _parse(classifier, texts)]
    return [next(each["name"] for each in ranking if each["name"] != FALLBACK) for ranking in rankings]


def _right(classifier: CascadeIntentClassifier, phrases: Phrases) -> float:
    guesses = _intents(classifier, [text for text, _ in phrases])
    return sum(guess == intent for guess, (_, intent) in zip(guesses, phrases, strict=True)) / len(phrases)


def _chinese(text: str) -> bool:
    return re.search(f"[{HAN}]", text) is not None


@pytest.fixture(scope="module")
def shop() -> Tuple[Phrases, Phrases]:
    """Return phrases to train on and others to test with, of ten intents in both scripts."""
    learn: Phrases = []
    others: Phrases = []
    data = load_data(str(ROOT / "data" / "nlu"))
    for intent in INTENTS:
        texts = [each.get(TEXT) for each in data.intent_examples if each.get(INTENT) == intent]
        for chinese in (True, False):
            phrases = [(text, intent) for text in texts if _chinese(text) == chinese]
            learn += phrases[:EACH]
            others += phrases[EACH : 2 * EACH]
    return learn, others


@pytest.fixture(scope="module")
def trained(shop: Tuple[Phrases, Phrases], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("shop"), shop[0])


def test_batch_of_64_gives_the_intents_of_single_texts(shop, trained: Trained) -> None:
    texts = [text for text, _ in shop[1]][::4]
    for together, alone in zip(_parse(trained.classifier, texts), _parse(trained.classifier, texts, 1), strict=True):
        assert together.get(INTENT)["name"] == alone.get(INTENT)["name"]
        assert together.get(INTENT)["confidence"] == pytest.approx(alone.get(INTENT)["confidence"], abs=1e-4)


@pytest.mark.parametrize("text", STRANGE, ids=[f"{text[:8]!a}x{len(text)}" for text in STRANGE])
def test_any_text_gets_an_intent_and_probabilities(trained: Trained, text: str) -> None:
    """The other text of the batch keeps its intent."""
    beside = "where is my order"
    message, usual = _parse(trained.classifier, [text, beside])
    ranking = message.get(INTENT_RANKING_KEY)
    assert message.get(INTENT) == ranking[0]
    assert all(0 <= each["confidence"] <= 1 for each in ranking)
    assert usual.get(INTENT)["name"] == _parse(trained.classifier, [beside])[0].get(INTENT)["name"]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_empty_text_gets_the_fallback_intent(trained: Trained, text: str) -> None:
    assert _parse(trained.classifier, [text])[0].get(INTENT)["name"] == FALLBACK


def test_loaded_classifier_predicts_as_the_trained_one(shop, trained: Trained) -> None:
    texts = [text for text, _ in shop[1]]
    for before, after in zip(_parse(trained.classifier, texts), _parse(trained.loaded(), texts), strict=True):
        ranking = [each["name"] for each in before.get(INTENT_RANKING_KEY)]
        assert [each["name"] for each in after.get(INTENT_RANKING_KEY)][:2] == ranking[:2]
        assert after.get(INTENT)["confidence"] == pytest.approx(before.get(INTENT)["confidence"], abs=1e-4)


def test_same_seed_trains_the_same_classifier(shop, trained: Trained, tmp_path: Path) -> None:
    again, other = Trained(tmp_path / "a", shop[0]).stored(), Trained(tmp_path / "b", shop[0], random_seed=7).stored()
    first = trained.stored()
    assert all(np.array_equal(first[name], again[name]) for name in first.keys() | again.keys())
    assert not np.array_equal(first["inner"], other["inner"])


def _cross_validated(phrases: Phrases, **config: Any) -> Dict[str, Any]:
    config = {**CascadeIntentClassifier.get_default_config(), **config}
    data = TrainingData([Message.build(text=text, intent=intent) for text, intent in phrases])
    TOKENIZER.process_training_data(data)
    return CascadeIntentClassifier(config, None, None).cross_validate(data)


def test_tuning_of_the_model_card_needs_the_same_phrases(tmp_path: Path) -> None:
    """With other phrases, or without the card, training cross-validates."""
    phrases = SMALL["two intents"]
    measured = _cross_validated(phrases)
    measured["tuning"]["least"] = 0.123
    file = tmp_path / "card.json"
    file.write_text(json.dumps(measured))
    assert Trained(tmp_path / "a", phrases, measured=str(file)).classifier._tuning.least == 0.123
    other = Trained(tmp_path / "b", [*phrases, ("one more", "go")], measured=str(file))
    assert other.classifier._tuning.least != 0.123
    assert Trained(tmp_path / "c", phrases, measured=str(tmp_path / "none")).classifier._tuning.least != 0.123


def test_cached_vectors_train_the_same_classifier(tmp_path: Path) -> None:
    phrases, file = SMALL["uneven"], str(tmp_path / "vectors.npz")
    first, again = (Trained(tmp_path / name, phrases, vector_cache=file).stored() for name in "ab")
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_over_85_percent_of_unseen_phrases_get_their_intent(shop, trained: Trained) -> None:
    assert _right(trained.classifier, shop[1]) > 0.85
    scores = trained.classifier._tuning
    assert 0 < scores.least < 1
    assert scores.odds >= 1


def test_classifier_with_vectors_beats_one_with_ngrams_alone(shop, trained: Trained, tmp_path: Path) -> None:
    ngrams = Trained(tmp_path, shop[0], vectors=False)
    assert _right(trained.classifier, shop[1]) > _right(ngrams.classifier, shop[1])


def test_intent_with_english_phrases_is_understood_in_chinese(shop, tmp_path: Path) -> None:
    """Other intents have Chinese phrases."""
    english_only = {"recover_password", "check_payment_methods", "thank"}
    left_out = [(text, intent) for text, intent in shop[0] if intent in english_only and _chinese(text)]
    rest = [each for each in shop[0] if each not in left_out]
    classifier = Trained(tmp_path, rest).classifier
    assert _right(classifier, left_out) > 0.6
    others = [(text, intent) for text, intent in shop[1] if intent not in english_only]
    assert _right(classifier, others) > 0.85


def test_english_data_set_is_understood_in_chinese(shop, tmp_path: Path) -> None:
    """No intent has a Chinese phrase."""
    learn, others = ([each for each in half if not _chinese(each[0])] for half in shop)
    chinese = [each for each in shop[1] if _chinese(each[0])]
    classifier = Trained(tmp_path, learn).classifier
    assert _right(classifier, chinese) > 0.6
    assert _right(classifier, others) > 0.8


SMALL: Dict[str, Phrases] = {
    "two intents": [(f"{word} please {at}", word) for word in ("stop", "go") for at in range(40)],
    "one example an intent": [("where is my parcel", "track"), ("给我开发票", "invoice"), ("hello there", "greet")],
    "two examples, another alphabet": [
        ("где мой заказ", "track"),
        ("когда придёт посылка", "track"),
        ("добрый день", "greet"),
        ("привет", "greet"),
    ],
    "no out of scope": [
        (f"{text} {at}", intent)
        for text, intent in (("注文はどこですか", "track"), ("ありがとう", "thank"), ("merci beaucoup", "thank"))
        for at in range(25)
    ],
    "uneven": [("rare words here", "rare"), *((f"common number {at}", "common") for at in range(90))],
}


@pytest.mark.parametrize("name", SMALL)
def test_small_or_uneven_data_set_is_learnt(name: str, tmp_path: Path) -> None:
    trained = Trained(tmp_path, SMALL[name])
    assert _right(trained.classifier, SMALL[name]) > 0.95
    assert _right(trained.loaded(), SMALL[name]) > 0.95


def test_single_intent_is_always_predicted(tmp_path: Path) -> None:
    trained = Trained(tmp_path, [("anything", "all"), ("什么都行", "all")])
    assert _intents(trained.loaded(), ["", "something", "别的"]) == ["all"] * 3


def test_classifier_without_phrases_predicts_no_intent(tmp_path: Path) -> None:
    message = _parse(Trained(tmp_path, []).loaded(), ["hello"])[0]
    assert (message.get(INTENT) or {}).get("name") is None


def test_vectors_of_a_text_do_not_depend_on_earlier_texts(shop) -> None:
    texts = [text for text, _ in shop[0]][::3]
    first = SentenceEncoder()
    expected = first.vectors(texts)
    for _ in range(3):  # more pieces than the cache keeps: it drops them and computes them again
        first.vectors([chr(0x4E00 + at) * 2 for at in range(4_000)])
        assert np.allclose(first.vectors(texts), expected, atol=1e-5)
    pieces = [piece for text in first.pieces(texts[:50]) for piece in text]
    assert np.allclose(SentenceEncoder(pieces).vectors(texts), expected, atol=1e-5)
