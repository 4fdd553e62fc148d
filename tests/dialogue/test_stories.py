"""The test stories, through NLU and policies by `rasa test`, which runs no forms and actions."""

from pathlib import Path

STORIES = Path(__file__).with_name("test_stories.yml")


def test_model_predicts_the_intents_and_actions_of_test_stories(rasa, model, tmp_path) -> None:
    ended = rasa(
        *("test", "core", "--model", model, "--stories", STORIES, "--out", tmp_path),
        *("--fail-on-prediction-errors", "--no-plot"),
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-5000:]
    assert "Correct:          0 / 0" not in output
    failed = (tmp_path / "failed_test_stories.yml").read_text(encoding="utf-8")
    assert "- story:" not in failed, failed
