"""Shell, workflow files and manifests are clean by the linters of their fields.

kube-score and actionlint come as packages nowhere: `make tools` builds them where Go is.
"""

import re
import sys

import pytest
import yaml

from tests.chart.rendering import ROOT, SETS, render
from tests.chart.tools import run, tool

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What kube-score asks for and this chart means otherwise, each with its reason.
ACCEPTED = {
    "container-ephemeral-storage-request-and-limit": "each emptyDir has a limit, the node rotates logs",
    "container-image-pull-policy": "named by digest in production, pulled anew an image would be the same",
    "deployment-has-host-podantiaffinity": "topology spread does it, by node and zone",
    "deployment-replicas": "autoscalers say how many; test_values.py holds that production has two at least",
    "pod-probes": "startup and liveness ask /livez alike; readiness asks another path",
}
OF_A_TRIAL = {
    "deployment-strategy": "the demo shop has its database in a file",
    "pod-probes-identical": "the one Kafka and Valkey are asked for their port",
    "statefulset-has-servicename": "one server is reached by a Service with an address",
}


def scripts():
    """Each piece of shell of this project by its name."""
    yield ".ci/run", (ROOT / ".ci" / "run").read_text()
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for number, step in enumerate(step for step in job["steps"] if "run" in step):
                yield f"{path.name} {name} {number}", re.sub(r"\$\{\{.*?\}\}", "0", step["run"])
    for name, job in yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text()).items():
        if isinstance(job, dict) and "script" in job:
            yield f".gitlab-ci.yml {name}", "\n".join([*job.get("before_script", []), *job["script"]])


@pytest.mark.parametrize(("name", "text"), list(scripts()), ids=lambda part: part if "\n" not in part else "")
def test_shell_is_clean(name, text):
    assert run(f"{sys.prefix}/bin/shellcheck", "--shell=bash", "-", text=text) == (0, "")


def test_a_slip_in_shell_is_noticed():
    assert run(f"{sys.prefix}/bin/shellcheck", "--shell=bash", "-", text="rm -rf $1/*\n")[0] == 1


def test_workflows_of_github_are_clean(tmp_path):
    actionlint = tool("actionlint")
    assert run(actionlint, "-shellcheck", f"{sys.prefix}/bin/shellcheck", *WORKFLOWS) == (0, "")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("matrix.scenario", "matrix.scenaro"))
    assert run(actionlint, wrong)[0] == 1


@pytest.mark.parametrize("name", SETS)
def test_kube_score_finds_nothing_that_is_not_meant_so(name):
    accepted = ACCEPTED if name == "production" else {**ACCEPTED, **OF_A_TRIAL}
    ignored = [part for test in accepted for part in ("--ignore-test", test)]
    ignored.append("--ignore-container-cpu-limit")  # throttling is felt as latency on a p99
    text = yaml.safe_dump_all(render(name))
    status, output = run(tool("kube-score"), "score", "--output-format", "ci", *ignored, "-", text=text)
    found = [line for line in output.splitlines() if line.startswith(("[CRITICAL]", "[WARNING]"))]
    assert (found, status) == ([], 0)
    assert output.count("[OK]") > 100
