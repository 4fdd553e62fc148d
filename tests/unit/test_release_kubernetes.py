"""The calls of Helm and kubectl by `python -m ops.release`. Fake programs record the calls, and can hang or fail."""

import json
import time

import pytest
import yaml

from ops.local.servers import ROOT
from ops.release import kubernetes
from ops.release.__main__ import main
from ops.release.changes import Refused
from ops.release.kubernetes import Kubernetes

MODEL = {"model": {"source": "fetch", "url": "https://models/2.tar.gz", "sha256": "0" * 64}}
TOPICS_JOB = (ROOT / "ops/charts/kefu/templates/topics.yaml").read_text()
FAKE = """#!/bin/sh
echo "$(basename $0) $*" >> {folder}/log
case "$(basename $0) $*" in
"helm status"*) cat {folder}/status 2>/dev/null || {{ echo "Error: release: not found" >&2; exit 1; }};;
"helm upgrade"*) [ ! -e {folder}/hangs ] || exec sleep 60;;
*"get deployments"*json) echo '{ready}';;
*"get deployments"*) echo deployment.apps/kefu-worker-green;;
*exec*status*) echo '{status}';;
esac
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Replace helm and kubectl by programs that record their calls; return a function that lists the calls."""
    status = json.dumps({"green": [{"inbox": "user.query", "model": "m", "turns": 0, "failed": 0}], "blue": []})
    ready = [
        {"metadata": {"labels": {"app.kubernetes.io/component": part}}, "status": {"readyReplicas": 1}}
        for part in ("gateway", "gateway-green", "actions", "actions-green")
    ]
    ready.append({"metadata": {"labels": {"app.kubernetes.io/component": "worker"}}, "status": {}})
    (tmp_path / "bin").mkdir()
    for name in ("helm", "kubectl"):
        (tmp_path / "bin" / name).write_text(
            FAKE.format(folder=tmp_path, status=status, ready=json.dumps({"items": ready}))
        )
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return lambda: (tmp_path / "log").read_text().splitlines()


def test_helm_gets_the_installations_values_first(programs, tmp_path, capsys):
    """The values of the release come second and override them."""
    common = ["-f", "yours.yaml", "--file", str(tmp_path / "release.yaml"), "-n", "shop", "--chart", "chart"]
    model = ["--model-url", "https://models/2.tar.gz", "--model-sha256", "0" * 64]
    assert main([*common, "start", "--worker", "sha256:" + "1" * 64, *model]) == 0
    assert main([*common, "switch"]) == 0
    assert main([*common, "status"]) == 0
    asked, helm, annotate, get, check = programs()[:5]
    assert asked == "helm status kefu -n shop -o json"
    assert helm.startswith(f"helm upgrade --install kefu chart -n shop -f yours.yaml -f {tmp_path}/release.yaml --wait")
    assert "annotate --overwrite pods -l" in annotate and "component in (worker,worker-green)" in annotate
    assert "component=worker-green" in get
    asked = "kubectl -n shop exec deployment.apps/kefu-worker-green -c worker -- python -m kefu release check"
    assert check == f"{asked} --fewer"
    assert "green is active, blue was before" in capsys.readouterr().out
    values = yaml.safe_load((tmp_path / "release.yaml").read_text())["release"]
    assert values["green"] == {"image": {"worker": {"tag": "", "digest": "sha256:" + "1" * 64}}, **MODEL}


def test_back_waits_for_no_pod_and_no_hook(programs, tmp_path):
    """A way back must not depend on pods of the broken track."""
    common = ["--file", str(tmp_path / "release.yaml"), "-n", "shop"]
    assert main([*common, "start", "--worker", "2"]) == 0
    assert main([*common, "canary", "--percent", "5"]) == 0
    assert main([*common, "back"]) == 0
    upgrades = [line for line in programs() if line.startswith("helm upgrade")]
    assert [("--wait" in line, "--no-hooks" in line) for line in upgrades] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_incomplete_model_and_missing_helm_are_refused(programs, tmp_path, monkeypatch, capsys):
    common = ["--file", str(tmp_path / "release.yaml")]
    assert main([*common, "start", "--model-url", "https://models/2.tar.gz"]) == 1
    assert "--model-sha256" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([*common, "status"]) == 1
    assert "helm is not installed" in capsys.readouterr().err


def test_helm_has_time_for_the_topics_job_and_the_pods(programs, tmp_path):
    assert main(["--file", str(tmp_path / "release.yaml"), "start", "--worker", "2"]) == 0
    upgrade = next(line for line in programs() if line.startswith("helm upgrade")).split()
    each = int(upgrade[upgrade.index("--timeout") + 1].rstrip("s"))
    job = yaml.safe_load(next(line for line in TOPICS_JOB.splitlines() if "activeDeadlineSeconds" in line))
    assert each > job["activeDeadlineSeconds"] and kubernetes.APPLIED_S > 2 * each


@pytest.mark.parametrize("stubborn", [False, True])
def test_hanging_helm_is_ended_and_reported(programs, tmp_path, monkeypatch, capsys, stubborn):
    monkeypatch.setattr(kubernetes, "APPLIED_S", 0.3)
    monkeypatch.setattr(kubernetes, "STOP_S", 0.3)
    if stubborn:
        helm = tmp_path / "bin" / "helm"
        helm.write_text(helm.read_text().replace("#!/bin/sh\n", "#!/bin/sh\ntrap '' TERM\n"))
    (tmp_path / "hangs").touch()
    started = time.monotonic()
    assert main(["--file", str(tmp_path / "release.yaml"), "start", "--worker", "2"]) == 1
    assert "release: helm upgrade --install: no end within" in capsys.readouterr().err
    assert time.monotonic() - started < 10


def test_pod_that_does_not_answer_kubectl_is_reported(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(kubernetes, "ASKED_S", 0.3)
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text(kubectl.read_text().replace("*exec*status*)", "*exec*status*) exec sleep 60;"))
    with pytest.raises(Refused, match="kubectl -n shop: no end within"):
        Kubernetes("kefu", "shop", []).ask("blue", "status")


@pytest.mark.parametrize(
    ("status", "way"),
    [
        ("pending-upgrade", "helm rollback --no-hooks kefu -n shop"),
        ("pending-rollback", "helm rollback --no-hooks kefu -n shop"),
        ("pending-install", "helm uninstall kefu -n shop"),
    ],
)
def test_pending_helm_change_is_refused_with_the_remedy(programs, tmp_path, capsys, status, way):
    common = ["--file", str(tmp_path / "release.yaml"), "-n", "shop"]
    assert main([*common, "start", "--worker", "2"]) == 0
    assert main([*common, "switch"]) == 0
    before = (tmp_path / "release.yaml").read_text()
    (tmp_path / "status").write_text(json.dumps({"info": {"status": status}}))
    assert main([*common, "back"]) == 1
    errors = capsys.readouterr().err
    assert status in errors and way in errors
    assert (tmp_path / "release.yaml").read_text() == before
    assert not [line for line in programs() if "--no-hooks" in line]


@pytest.mark.parametrize("status", ["deployed", "failed"])
def test_back_works_after_a_failed_upgrade(programs, tmp_path, status):
    common = ["--file", str(tmp_path / "release.yaml"), "-n", "shop"]
    assert main([*common, "start", "--worker", "2"]) == 0
    (tmp_path / "status").write_text(json.dumps({"info": {"status": status}}))
    assert main([*common, "canary", "--percent", "5"]) == 0
    assert main([*common, "back"]) == 0
    assert yaml.safe_load((tmp_path / "release.yaml").read_text())["release"]["canary"]["percent"] == 0
