"""The nightly workflows: an intended slowdown can be accepted, and every failure is reported."""

import subprocess

import pytest
import yaml

from ops.local.servers import ROOT

GITHUB = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())["jobs"]
GITLAB = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
# A stand-in for Python: it appends its arguments to the file `said`, and fails for `run`, as after a regression.
PYTHON = """#!/bin/sh
echo "$@" >> said
[ "$3" != run ]
"""


def shell(text, folder, **environment):
    """Run a step's script as both services do; returns its status."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text], cwd=folder, env={"PATH": "/usr/bin:/bin", **environment}
    )
    return done.returncode


@pytest.fixture
def checkout(tmp_path):
    python = tmp_path / ".local" / "services" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def test_github_workflow_can_accept_a_failed_load_run():
    """The figures are accepted and cached although the run itself found a regression."""
    steps = {step.get("id") or step.get("uses"): step for step in GITHUB["load"]["steps"]}
    assert steps["accept"]["if"] == "${{ !cancelled() && inputs.accept }}"
    assert steps["actions/cache/save@v4"]["if"] == "${{ !cancelled() && steps.accept.outcome == 'success' }}"


@pytest.mark.parametrize(("accept", "verbs"), [("1", ["run", "accept"]), ("", ["run"])])
def test_gitlab_job_can_accept_a_failed_load_run_and_still_fails(checkout, accept, verbs):
    assert shell(GITLAB["load"]["script"][-1], checkout, SCENARIO="steps", ACCEPT=accept) == 1
    assert [line.split()[2] for line in (checkout / "said").read_text().splitlines()] == verbs
    assert GITLAB["load"]["cache"]["when"] == "always"


def test_github_workflow_reports_failed_and_timed_out_jobs():
    assert set(GITHUB["tell"]["needs"]) == set(GITHUB) - {"tell"}
    for result in ("failure", "cancelled"):
        assert f"contains(needs.*.result, '{result}')" in GITHUB["tell"]["if"]


def test_gitlab_pipeline_reports_failed_jobs():
    (rule,) = GITLAB["tell"]["rules"]
    assert (GITLAB["tell"]["stage"], rule["when"]) == (".post", "on_failure")
    assert rule["if"] == GITLAB["kills"]["rules"][0]["if"]


TELL = {
    "github": (GITHUB["tell"]["steps"][0]["run"], "RUN"),
    "gitlab": (GITLAB["tell"]["script"][0], "CI_PIPELINE_URL"),
}


@pytest.mark.parametrize("where", TELL)
def test_nightly_report_links_to_the_run(tmp_path, hook, where):
    script, address = TELL[where]
    url, requests = hook
    assert shell(script, tmp_path, KEFU_LOAD_WEBHOOK=url, **{address: "https://ci.example.com/runs/7"}) == 0
    assert requests == [{"text": "Kefu's nightly proof failed: https://ci.example.com/runs/7"}]
    assert shell(script, tmp_path, KEFU_LOAD_WEBHOOK="") == 0 and len(requests) == 1
