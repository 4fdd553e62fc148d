"""The report of `make train` (changes of the data, scores beside the committed ones) and the model card."""

import io
import json
import tarfile

import pytest

from ops.local import training
from ops.understanding.card import written

NLU = 'version: "3.1"\n\nnlu:\n  - intent: greet\n    examples: |\n      - hello\n      - 你好\n'
SCORES = {
    "accuracy": 0.9,
    "out_of_scope_caught": 0.8,
    "in_scope_lost": 0.015,
    "calibration_error": 0.02,
    "by_intent": {"greet": {"zh": [9, 10], "en": [8, 10]}, "rare": {"en": [0, 0]}},
    "confusions": [["greet", "rare", 3]],
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data" / "nlu").mkdir(parents=True)
    (tmp_path / "data" / "rules").mkdir()
    (tmp_path / "data" / "nlu" / "talk.yml").write_text(NLU, encoding="utf-8")
    (tmp_path / "data" / "rules" / "talk.yml").write_text("rules: []\n")
    (tmp_path / "config.yml").write_text("recipe: default.v1\n")
    return tmp_path


def lines_of(project, edit):
    before = json.loads(json.dumps(training.snapshot(project)))
    edit(project)
    return list(training.changes(before, training.snapshot(project)))


def test_report_of_the_first_training_counts_the_phrases(project):
    assert list(training.changes(None, training.snapshot(project))) == ["first training here: 2 phrases of 1 intents"]


def test_training_report_counts_only_phrases_of_intents(project):
    """Look-up tables, synonyms and regexes have examples, too."""
    beside = "  - lookup: city\n    examples: |\n      - 上海\n  - synonym: red\n    examples: |\n      - crimson\n"
    beside += "  - regex: zip\n    examples: |\n      - \\d{6}\n"
    (project / "data" / "nlu" / "talk.yml").write_text(NLU + beside, encoding="utf-8")
    assert list(training.changes(None, training.snapshot(project))) == ["first training here: 2 phrases of 1 intents"]


def test_training_report_reads_both_yaml_forms_of_examples(project):
    def edit(root):
        listed = "\n      - text: |\n          hello\n        metadata: {by: me}\n      - text: 你好\n"
        text = NLU.replace(" |\n      - hello\n      - 你好\n", listed)
        (root / "data" / "nlu" / "talk.yml").write_text(text, encoding="utf-8")

    assert lines_of(project, edit) == ["no data changed since the last training"]


def test_training_report_says_that_no_data_changed(project):
    assert lines_of(project, lambda root: None) == ["no data changed since the last training"]


def test_training_report_counts_new_and_removed_phrases(project):
    def edit(root):
        text = NLU.replace("hello", "hello there").replace("- 你好", "- 你好\n      - 您好")
        (root / "data" / "nlu" / "talk.yml").write_text(text + "  - intent: thank\n    examples: |\n      - thanks\n")

    assert lines_of(project, edit) == ["greet: 2 phrases new, 1 gone", "thank: 1 phrases new, 0 gone"]


def test_phrase_moved_to_another_file_is_no_change(project):
    nlu = project / "data" / "nlu"
    assert lines_of(project, lambda root: (nlu / "talk.yml").rename(nlu / "other.yml")) == [
        "no data changed since the last training"
    ]


def test_training_report_names_other_changed_files(project):
    def edit(root):
        (root / "config.yml").write_text("recipe: graph.v1\n")
        (root / "domain.yml").write_text("intents: []\n")
        (root / "data" / "rules" / "talk.yml").unlink()

    assert lines_of(project, edit) == ["config.yml changed", "data/rules/talk.yml gone", "domain.yml new"]


def test_training_report_compares_scores_with_the_committed_ones():
    committed = {**SCORES, "by_intent": {"greet": {"zh": [8, 10], "en": [8, 10]}}, "in_scope_lost": 0.025}
    rows = {line.split("  ")[0]: line for line in training.table(SCORES, committed)}
    assert rows["greet"].split()[1:] == ["90.0", "(+10.0)", "80.0", "(=)"]
    assert rows["all"].split()[1:] == ["90.0", "(+10.0)", "80.0", "(=)"]
    assert rows["in_scope_lost"].split()[1:] == ["1.5", "(-1.0)"]
    assert rows["rare"].split()[1:] == ["-", "-"]
    assert "3 of greet taken for rare" in rows


def test_scores_without_a_committed_value_are_marked_new():
    assert "90.0 (new)" in next(line for line in training.table(SCORES, {}) if line.startswith("greet"))


def test_training_scores_are_read_from_the_model_archive(tmp_path):
    content = json.dumps({"cross_validated": SCORES}).encode()
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("components/train_some.CascadeIntentClassifier4/model.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert training.stored(tmp_path / "model.tar.gz") == SCORES


def test_training_report_of_a_model_without_scores_says_so(tmp_path):
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz"):
        pass
    assert list(training.table(training.stored(tmp_path / "model.tar.gz"), SCORES)) == [
        "the model keeps no cross-validated scores"
    ]


def test_model_card_shows_the_given_figures():
    held = {"accuracy": {"zh": 0.961, "en": 0.937}, "confusions": [["a -> b", 7]], "phrases": 1234}
    held |= {"out_of_scope_caught": 0.93, "in_scope_lost": 0.005, "calibration_error": 0.018}
    card = written(
        {
            "data": {"phrases": {"zh": 3000, "en": 3001, "other": 2}, "intents": 2},
            "cross_validated": SCORES,
            "held_out": {"intents": held, "entities": {"date": {"wanted": 53, "f1": 0.987}}},
            "cpu_ms": {"64": 0.25},
            "footprint": {"rss_mb": 340.2, "cpu_s": 3.1},
            "machine": "a machine",
        }
    )
    for line in (
        "| Accuracy, Chinese | 90.0 % | 96.1 % |",
        "| Accuracy, English | 80.0 % | 93.7 % |",
        "| greet | 20 | 90.0 % | 80.0 % |",
        "| rare | 0 | - | - |",
        "| a -> b | 7 |",
        "| date | 53 | 0.987 |",
    ):
        assert line in card.splitlines()


def test_committed_model_card_equals_its_figures():
    """model-card.md is generated from model-card.json."""
    figures = json.loads(training.COMMITTED.read_text(encoding="utf-8"))
    assert training.COMMITTED.with_suffix(".md").read_text(encoding="utf-8") == written(figures)
