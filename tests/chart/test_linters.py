"""Linters find nothing in shell scripts, workflow files and manifests.

No package contains kube-score and actionlint: `make tools` builds them where Go is installed.
"""

import re
import sys

import pytest
import yaml

from tests.chart.rendering import ROOT, SETS, render
from tests.chart.tools import run, tool

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Checks of kube-score that this chart fails on purpose, each with its reason.
ACCEPTED = {
    "container-ephemeral-storage-request-and-limit": "each emptyDir has a limit, the node rotates logs",
    "container-image-pull-policy": "production names images by digest: pulling one again would give the same",
    "deployment-has-host-podantiaffinity": "topology spread does it, by node and zone",
    "deployment-replicas": "autoscalers set the number; test_values.py checks that production has at least two",
    "pod-probes": "startup and liveness both ask /livez; readiness asks another path",
}
OF_A_TRIAL = {
    "deployment-strategy": "the demo shop has its database in a file",
    "pod-probes-identical": "all probes of the single Kafka and Valkey try their port",
    "statefulset-has-servicename": "one server is reached by a Service with an address",
}


def scripts():
    """Yield name and text of each shell script of this project."""
    yield ".ci/run", (ROOT / ".ci" / "run").read_text()
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for number, step in enumerate(step for step in job["steps"] if "run" in step):
                yield f"{path.name} {name} {number}", re.sub(r"\$\{\{.*?\}\}", "0", step["run"])
    for name, job in yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text()).items():
        if isinstance(job, dict) and "script" in job:
            yield f".gitlab-ci.yml {name}", "\n".join([*job.get("before_script", []), *job["script"]])


@pytest.mark.parametrize(("name", "text"), list(scripts()), ids=lambda part: part if "\n" not in part else "")
def test_shellcheck_finds_nothing_in_any_script(name, text):
    """The scripts are .ci/run and the steps of the workflow files."""
    assert run(f"{sys.prefix}/bin/shellcheck", "--shell=bash", "-", text=text) == (0, "")


def test_shellcheck_finds_an_unquoted_variable():
    assert run(f"{sys.prefix}/bin/shellcheck", "--shell=bash", "-", text="rm -rf $1/*\n")[0] == 1


def test_actionlint_finds_nothing_in_the_github_workflows(tmp_path):
    """A misspelt name in a workflow is found."""
    actionlint = tool("actionlint")
    assert run(actionlint, "-shellcheck", f"{sys.prefix}/bin/shellcheck", *WORKFLOWS) == (0, "")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("matrix.scenario", "matrix.scenaro"))
    assert run(actionlint, wrong)[0] == 1


@pytest.mark.parametrize("name", SETS)
def test_kube_score_finds_only_accepted_deviations(name):
    """ACCEPTED and OF_A_TRIAL list them with their reasons."""
    accepted = ACCEPTED if name == "production" else {**ACCEPTED, **OF_A_TRIAL}
    ignored = [part for test in accepted for part in ("--ignore-test", test)]
    ignored.append("--ignore-container-cpu-limit")  # a CPU limit throttles, which raises the p99 latency
    text = yaml.safe_dump_all(render(name))
    status, output = run(tool("kube-score"), "score", "--output-format", "ci", *ignored, "-", text=text)
    findings = [line for line in output.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
    assert (findings, status) == ([], 0)
    assert output.count("[OK]") > 100
