"""Entities: held-out sentences by sort, arbitrary texts, dates relative to the message."""

import json
import tracemalloc
from collections import Counter
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rasa.engine.storage.local_model_storage import LocalModelStorage
from rasa.engine.storage.resource import Resource
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from kefu.errors import DesignError
from kefu.privacy import mask
from kefu.worker.nlu.components import NumberReader
from kefu.worker.nlu.entities import PatternEntityExtractor
from kefu.worker.nlu.gate import opening
from kefu.worker.nlu.patterns import PatternMatcher, read, split
from kefu.worker.nlu.text import fold

ROOT = Path(__file__).resolve().parents[2]
HELD_OUT = yaml.safe_load((ROOT / "tests" / "dialogue" / "nlu_heldout_entities.yml").read_text(encoding="utf-8"))
SATURDAY = datetime(2026, 11, 21, 12, tzinfo=timezone(timedelta(hours=8)))
BAR = 0.95
PERSONAL = {"phone", "email", "id_card", "bank_card"}  # compared as the gateway masks them
SORTS = sorted({entity["entity"] for each in HELD_OUT for entity in each["entities"]})


def _extractor(folder: Path, patterns: Path = ROOT / "data" / "entities") -> PatternEntityExtractor:
    config = {**PatternEntityExtractor.get_default_config(), "patterns": str(patterns)}
    folder.mkdir(parents=True, exist_ok=True)
    storage, resource = LocalModelStorage.create(folder), Resource("entities")
    phrases = [Message.build(text=text, intent="any") for text in ("我的订单到哪了", "where is my order", "好的")]
    PatternEntityExtractor.create(config, storage, resource, None).train(TrainingData(phrases))
    return PatternEntityExtractor.load(config, storage, resource, None)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> PatternEntityExtractor:
    """Return the extractor with the project's patterns, as loaded from a model."""
    return _extractor(tmp_path_factory.mktemp("entities"))


def _found(extractor: PatternEntityExtractor, texts: List[str], at: datetime = SATURDAY) -> List[List[Dict[str, Any]]]:
    messages = [Message(data={"text": text, "metadata": {"ts": at.timestamp()}}) for text in texts]
    return [message.get("entities") for message in extractor.process(NumberReader().process(messages))]


def _value(entity: Dict[str, Any]) -> Tuple[str, str]:
    value = mask(entity["value"]) if entity["entity"] in PERSONAL else entity["value"]
    return entity["entity"], "*" + value[-4:] if entity["entity"] == "phone" else str(value)


@pytest.fixture(scope="module")
def compared(extractor: PatternEntityExtractor) -> "Tuple[Counter, Counter]":
    """Return the expected and the extracted entities of the held-out sentences, each with its sentence."""
    wanted, got = Counter(), Counter()
    for each, found in zip(HELD_OUT, _found(extractor, [each["text"] for each in HELD_OUT]), strict=True):
        wanted.update((each["text"], *_value(entity)) for entity in each["entities"])
        got.update((each["text"], *_value(entity)) for entity in found if entity["entity"] in SORTS)
    return wanted, got


@pytest.mark.parametrize("sort", SORTS)
def test_held_out_sentences_give_their_entities(compared: "Tuple[Counter, Counter]", sort: str) -> None:
    wanted, got = (Counter({key: count for key, count in each.items() if key[1] == sort}) for each in compared)
    right = (wanted & got).total()
    assert 2 * right / (wanted.total() + got.total()) >= BAR, ((wanted - got), (got - wanted))


@pytest.mark.parametrize(
    "said, value",
    [
        ("2026-11-21T00:10+08:00", "2026-11-20"),
        ("2026-11-20T16:10+00:00", "2026-11-20"),  # the same moment: the shop's time zone gives the day
        ("2026-03-01T09:00+08:00", "2026-02-28"),
        ("2024-03-01T09:00+08:00", "2024-02-29"),
        ("2027-01-01T00:00+08:00", "2026-12-31"),
    ],
)
def test_yesterday_is_the_day_before_the_message(extractor: PatternEntityExtractor, said: str, value: str) -> None:
    (entities,) = _found(extractor, ["昨天下的单"], datetime.fromisoformat(said))
    assert [each["value"] for each in entities if each["entity"] == "date"] == [value]


def test_relative_dates_in_a_batch_follow_each_messages_day(extractor: PatternEntityExtractor) -> None:
    days = [SATURDAY - timedelta(days=each) for each in range(5)]
    messages = [Message(data={"text": "yesterday", "metadata": {"ts": day.timestamp()}}) for day in days]
    values = [message.get("entities")[0]["value"] for message in extractor.process(messages)]
    assert values == [(day - timedelta(days=1)).date().isoformat() for day in days]


@pytest.mark.parametrize(
    "text", ["2月30号", "2026-13-01", "the 31st of February", "25:61", "0月0日", "99点", "8点99分", "9999999天前"]
)
def test_impossible_dates_and_times_give_no_entity(extractor: PatternEntityExtractor, text: str) -> None:
    (entities,) = _found(extractor, [text])
    assert {each["entity"] for each in entities} & {"date", "time"} == set()


@pytest.mark.parametrize(
    "text",
    [
        "一块发吧",
        "有一个问题",
        "两个月了",
        "第二个",
        "400打不通",
        "字大一点",
        "5楼",
        "万元",
        "三五天",
        "一一一",
    ],
)
def test_lookalike_words_give_no_entity(extractor: PatternEntityExtractor, text: str) -> None:
    """Words such as 一块 contain numerals without a quantity. Plain numbers may be found."""
    (entities,) = _found(extractor, [text])
    assert [each["entity"] for each in entities if each["entity"] != "number"] == []


def test_personal_data_never_becomes_a_value(extractor: PatternEntityExtractor) -> None:
    texts = ["13800001234", "我的卡6222021234567890128", "110101199001010015", "lilei@example.com"]
    values = [str(each["value"]) for found in _found(extractor, texts) for each in found]
    assert [mask(value) for value in values] == values


@pytest.mark.parametrize(
    "text, sort, value",
    [
        ("*******1234", "phone", "*******1234"),
        ("[email]", "email", "[email]"),
        ("发到[email]吧", "email", "[email]"),
        ("a***@mail.example", "email", "a***@mail.example"),
        ("[id-card]", "id_card", "[id-card]"),
        ("***************0128", "bank_card", "***************0128"),
    ],
)
def test_masked_personal_data_is_still_recognised(
    extractor: PatternEntityExtractor, text: str, sort: str, value: str
) -> None:
    (entities,) = _found(extractor, [text])
    assert (sort, value) in [(each["entity"], each["value"]) for each in entities]


def test_batch_of_64_gives_the_entities_of_single_texts(extractor: PatternEntityExtractor) -> None:
    texts = [each["text"] for each in HELD_OUT[:64]]
    assert _found(extractor, texts) == [_found(extractor, [text])[0] for text in texts]


@given(text=st.text(max_size=200) | st.text("0123456789一二三月日号点块元-/:. *年个ap", max_size=60))
@settings(max_examples=300, deadline=None)
def test_entities_lie_within_the_text(extractor: PatternEntityExtractor, text: str) -> None:
    """Any text is given. Entities of the patterns do not overlap."""
    (entities,) = _found(extractor, [text])
    assert all(0 <= each["start"] < each["end"] <= len(text) for each in entities)
    ours = sorted((each["start"], each["end"]) for each in entities if each["extractor"] == "PatternEntityExtractor")
    assert all(before[1] <= after[0] for before, after in pairwise(ours))


@pytest.mark.parametrize(
    "part", ["*", "1", "一", "a ", "a.", "a@", "1,", "路", "1-", "两个", "Jan 1 ", "😀", "20260001 "]
)
def test_extracting_entities_of_4000_characters_bounds_memory(extractor: PatternEntityExtractor, part: str) -> None:
    # Memory is measured because time depends on the machine: quadratic matching would allocate gigabytes.
    text = (part * 4000)[:4000]
    tracemalloc.start()
    _found(extractor, [text])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_extracting_entities_does_not_grow_the_vocabulary(extractor: PatternEntityExtractor) -> None:
    strings = extractor._matcher._nlp.vocab.strings
    _found(extractor, ["订单20269998的货款399元"])
    before = len(strings)
    for start in range(0, 2000, 50):
        _found(extractor, [f"订单{20260000 + number}付了{number}元" for number in range(start, start + 50)])
    assert len(strings) == before


def test_entity_patterns_behind_the_gate_lose_no_match(extractor: PatternEntityExtractor) -> None:
    """The gate is a quick check of a text's words, which decides on the patterns to try."""
    patterns = read(ROOT / "data" / "entities")
    texts = [fold(each["text"]) for each in HELD_OUT]
    gated = PatternMatcher(patterns, opening(patterns, ([word for word, _ in split(text)] for text in texts), split))
    everything = PatternMatcher(patterns, {"triggers": ["{}"] * len(patterns), "frequent": []})
    assert [sorted(each) for each in gated.find(texts)] == [sorted(each) for each in everything.find(texts)]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"label": "city", "pattern": "x"}', '{"label": "a", "pattern": "", "id": ""}']
)
def test_broken_pattern_is_reported_with_file_and_line(tmp_path: Path, line: str) -> None:
    sound = json.dumps({"label": "city", "pattern": "杭州", "id": "杭州"}, ensure_ascii=False)
    (tmp_path / "cities.jsonl").write_text(f"{sound}\n{line}\n", encoding="utf-8")
    with pytest.raises(DesignError, match=r"cities\.jsonl, line 2"):
        read(tmp_path)


def test_pattern_of_a_new_sort_gives_its_id_as_value(tmp_path: Path) -> None:
    patterns = [
        {"label": "colour", "pattern": "深空灰", "id": "grey"},
        {"label": "colour", "pattern": [{"LOWER": "space"}, {"LOWER": {"IN": ["gray", "grey"]}}], "id": "grey"},
    ]
    (tmp_path / "colours.jsonl").write_text("\n".join(map(json.dumps, patterns)), encoding="utf-8")
    extractor = _extractor(tmp_path / "model", tmp_path)
    for text in ("要深空灰的", "the Space Gray one"):
        assert [(each["entity"], each["value"]) for each in _found(extractor, [text])[0]] == [("colour", "grey")]
