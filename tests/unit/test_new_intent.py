"""`make intent` on a copy of the project: what it writes, leaves alone and refuses."""

import re
import shutil

import pytest
import yaml

from ops.local import intent
from ops.local.servers import ROOT

FILES = ("domain.yml", "data", "tests/dialogue")


@pytest.fixture
def project(tmp_path):
    """A copy of the files that `make intent` reads and writes."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "domain.yml", tmp_path)
    for folder in FILES[1:]:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def texts(root):
    paths = [path for name in FILES for path in [root / name, *(root / name).rglob("*.yml")] if path.is_file()]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def test_make_intent_writes_stubs_in_every_place(project):
    assert intent.main(["stub_of_a_test"], project) == 0
    domain = yaml.safe_load((project / "domain.yml").read_text(encoding="utf-8"))
    assert "stub_of_a_test" in domain["intents"]
    languages = [
        each.get("condition", [{}])[0].get("value", "zh") for each in domain["responses"]["utter_stub_of_a_test"]
    ]
    assert languages == ["zh", "zh", "en", "en"]
    for name in ("data/nlu/stub_of_a_test.yml", "tests/dialogue/nlu_heldout.yml"):
        nlu = yaml.safe_load((project / name).read_text(encoding="utf-8"))["nlu"]
        assert nlu[-1]["intent"] == "stub_of_a_test" and nlu[-1]["examples"].count("- ") == 2
    rules = yaml.safe_load((project / "data/rules/questions.yml").read_text(encoding="utf-8"))["rules"]
    assert rules[-1]["steps"] == [{"intent": "stub_of_a_test"}, {"action": "utter_stub_of_a_test"}]
    stories = yaml.safe_load((project / "tests/dialogue/test_stories.yml").read_text(encoding="utf-8"))["stories"]
    assert [each["steps"][1] for each in stories[-2:]] == [{"action": "utter_stub_of_a_test"}] * 2


def test_make_intent_keeps_every_existing_line(project):
    before = texts(project)
    assert intent.main(["stub_of_a_test", "--topic", "refunds"], project) == 0
    after = texts(project)
    assert before.keys() == after.keys()
    for name, text in before.items():
        remaining = iter(after[name].splitlines())
        assert all(line in remaining for line in text.splitlines()), name


def test_make_intent_can_be_run_twice(project):
    assert intent.main(["stub_of_a_test"], project) == intent.main(["second_stub"], project) == 0
    domain = yaml.safe_load((project / "domain.yml").read_text(encoding="utf-8"))
    assert {"stub_of_a_test", "second_stub"} <= set(filter(lambda each: isinstance(each, str), domain["intents"]))
    assert {"utter_stub_of_a_test", "utter_second_stub"} <= domain["responses"].keys()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["cancel_order"], "exists already"),
        (["form_idled"], "exists already"),
        (["holding"], "utter_holding exists already"),
        (["nlu_fallback"], "exists already"),
        (["Price-Match"], "no identifier"),
        (["2_for_1"], "no identifier"),
        (["stub_of_a_test", "--topic", "../refunds"], "no identifier"),
    ],
)
def test_make_intent_with_a_refused_name_changes_no_file(project, capsys, arguments, reason):
    before = texts(project)
    assert intent.main(arguments, project) == 1
    assert reason in capsys.readouterr().err
    assert texts(project) == before


def test_make_intent_prints_what_is_left_to_do(project, capsys):
    intent.main(["stub_of_a_test"], project)
    output = capsys.readouterr().out
    assert all(
        name in output for name in ("domain.yml", "data/nlu/stub_of_a_test.yml", "FILL_IN", "MEANINGS", "make train")
    )


def test_project_has_no_placeholder_of_make_intent():
    files = {name for name, text in texts(ROOT).items() if re.search(rf"\b{intent.PLACEHOLDER}\b", text)}
    assert files == set()
