"""A check that needs a missing program is skipped at home and fails in CI."""

import subprocess

import pytest
import yaml

from ops.local import tools as getting
from tests.chart import tools
from tests.chart.rendering import ROOT

NAME = "no-such-program"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "TOOLS", tmp_path)
    monkeypatch.setattr(getting, "TARGET", tmp_path)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("KEFU_TOOLS", raising=False)
    return tmp_path


def test_missing_tool_skips_a_test_at_home_and_fails_it_in_ci(folder, monkeypatch):
    with pytest.raises(pytest.skip.Exception, match="make tools"):
        tools.tool(NAME)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make tools"):
        tools.tool(NAME)


def test_tool_that_could_not_be_had_skips_a_test_with_a_warning(folder, monkeypatch):
    """`make tools` has noted the reason; then CI skips the test, too."""
    monkeypatch.setenv("CI", "true")

    def get():
        raise FileNotFoundError("no go")

    getting.attempt(NAME, get)
    with pytest.warns(UserWarning, match=f"NOT CHECKED BY {NAME}: .*no go"), pytest.raises(pytest.skip.Exception):
        tools.tool(NAME)
    getting.attempt(NAME, lambda: (folder / NAME).touch(mode=0o755))
    assert tools.tool(NAME) == str(folder / NAME)
    assert not list(folder.glob("*.missing"))


def test_missing_tool_fails_a_test_if_tools_are_required(folder, monkeypatch):
    """KEFU_TOOLS=required says so, also where `make tools` has noted the reason."""

    def get():
        raise FileNotFoundError("no go")

    assert not getting.attempt(NAME, get)
    monkeypatch.setenv("KEFU_TOOLS", "required")
    with pytest.raises(pytest.fail.Exception, match="required"):
        tools.tool(NAME)


@pytest.mark.parametrize(("required", "status"), [(True, 1), (False, 0)])
def test_make_tools_fails_only_if_tools_are_required(folder, monkeypatch, required, status):
    monkeypatch.setattr(getting, "REQUIRED", required)
    monkeypatch.setattr(getting.shutil, "which", lambda _: None)
    for way in ("by_go", "promtool", "redis_server"):
        monkeypatch.setattr(getting, way, lambda *_: (_ for _ in ()).throw(FileNotFoundError("not here")))
    assert getting.main() == status
    assert len(list(folder.glob("*.missing"))) == 4


def test_workflows_of_github_and_gitlab_require_the_tools():
    github = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    gitlab = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())["test"]
    assert github["env"]["KEFU_TOOLS"] == gitlab["variables"]["KEFU_TOOLS"] == "required"


def test_make_tools_gets_its_own_go_if_the_machines_is_too_old(folder, monkeypatch):
    built = []

    def run(command, *_):
        built.append(command[0])
        if command[0] == "go":
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(getting, "_run", run)
    monkeypatch.setattr(getting, "find_uv", lambda: "uv")
    monkeypatch.setattr(getting, "environment", lambda *_: None)
    getting.by_go("kube-score")
    assert built == ["go", str(getting.LOCAL / "go" / "bin" / "go")]
