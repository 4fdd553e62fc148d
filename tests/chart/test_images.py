"""The images: every step of their Dockerfiles is run in a fresh folder, and the processes built there are started."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from ops.local.servers import HOST, free_port
from tests.chart.dockerfile import Build, instructions
from tests.chart.rendering import ROOT, containers, pods, render
from tests.waiting import until

pytestmark = pytest.mark.timeout(1200)  # the first test also waits for the build of an image
IMAGES = ROOT / "ops" / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
LAUNCHER = ROOT / "tests" / "chart" / "cluster" / "contained.py"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    yield from built_in(tmp_path_factory.mktemp("services"), "services.Dockerfile")


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    yield from built_in(tmp_path_factory.mktemp("worker"), "worker.Dockerfile")


def built_in(folder, name):
    """Build an image in a folder, and remove the folder after the tests: it holds a gigabyte."""
    yield Build(IMAGES / name, folder, VERSION="1.2.3", REVISION="0f3a")
    shutil.rmtree(folder)


def run(built, command, seconds=120, **settings):
    """Run a command as a container of the image would, with only /tmp writable; return the process."""
    temporary = built.last.outside("/tmp")
    python = built.last.outside("/opt/venv/bin/python")
    return subprocess.Popen(
        [sys.executable, str(LAUNCHER), temporary, "--", python, *command[1:]],
        cwd=built.last.outside(built.last.workdir),
        env={**built.environment(), "TMPDIR": temporary, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(built, command, **settings):
    process = run(built, command, **settings)
    output = process.communicate(timeout=120)[0]
    return process.returncode, output


def serves(built, command, probe, **settings):
    """Return whether a process of the image answers its probe, which is called by the image's own command."""
    process = run(built, command, **settings)

    def answers():
        assert process.poll() is None, process.communicate()[0]
        return ended(built, ["python", "-m", "kefu", "probe", probe])[0] == 0

    try:
        until(answers, f"{probe} to answer")
        return True
    finally:
        process.terminate()
        process.wait(30)


def test_every_process_of_the_services_image_starts(services):
    """Gateway, action server and tools are imported; the shop is started and answers its probe."""
    tools = ("kefu.tools.dlq.command", "kefu.tools.acls")
    for module in ("kefu.gateway.app", "actions.server", "ops.local.shop.app", *tools):
        assert ended(services, ["python", "-c", f"import {module}"]) == (0, ""), module
    status, output = ended(services, services.last.command)
    assert (status, output) == (2, "kefu gateway: KEFU_TENANTS is not set\n")
    port = free_port()
    settings = {
        "KEFU_SHOP_PORT": str(port),
        "KEFU_SHOP_TOKEN": "token",
        "KEFU_SHOP_DATABASE_URL": f"sqlite:///{services.last.outside('/tmp')}/shop.db",
    }
    assert serves(services, ["python", "-m", "ops.local.shop"], f"http://{HOST}:{port}/readyz", **settings)


def test_worker_image_starts_with_a_model(worker):
    """Kafka and Redis can't be reached: the worker is alive all the same."""
    ports = {"KEFU_WORKER_PORT": str(free_port()), "KEFU_WORKER_HEALTH_PORT": str(free_port())}
    nowhere = f"{HOST}:{free_port()}"
    settings = {
        "KAFKA_BROKERS": nowhere,
        "REDIS_URL": f"redis://{nowhere}",
        "ACTION_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    probe = f"http://{HOST}:{ports['KEFU_WORKER_HEALTH_PORT']}/livez"
    model = worker.last.outside("/app/models/kefu.tar.gz")
    assert serves(worker, worker.last.command, probe, KEFU_MODEL=model, **ports, **settings)


def test_probe_command_of_the_image_reports_a_closed_port(services):
    status, output = ended(services, ["python", "-m", "kefu", "probe", f"http://{HOST}:{free_port()}/readyz"])
    assert status == 1 and "refused" in output


def test_images_have_an_unprivileged_user_and_version_labels(services, worker):
    for built in (services, worker):
        assert built.last.user == "10001:10001"
        labels = {name.rpartition(".")[2]: label for name, label in built.last.labels.items()}
        assert (labels["licenses"], labels["version"], labels["revision"]) == ("Apache-2.0", "1.2.3", "0f3a")


def test_image_lists_exactly_its_installed_packages(services, worker):
    """The list is /app/sbom.json, with the hash of each package."""
    for built in (services, worker):
        document = json.loads((built.last.root / "app" / "sbom.json").read_text())
        listed = {(each["name"], each["version"]) for each in document["components"]}
        packages = built.last.root.glob("opt/venv/lib/*/site-packages/*.dist-info")
        installed = {path.name.removesuffix(".dist-info").rpartition("-") for path in packages}
        assert listed == {(re.sub("[-_.]+", "-", name).lower(), version) for name, _, version in installed}
        assert all(each["externalReferences"][0]["hashes"] for each in document["components"])


def test_worker_image_is_smaller_than_1_2_gb(worker):
    """The parts of TensorFlow that the worker does not use are left out."""
    size = sum(path.lstat().st_size for path in worker.last.root.rglob("*") if path.is_file())
    assert size < 1.2e9


def test_image_built_twice_has_the_same_files(services):
    before = digests(services.last.root)
    folder = services.last.root.parent
    shutil.rmtree(folder)
    folder.mkdir()
    Build(IMAGES / "services.Dockerfile", folder)  # in the same folder: scripts contain their interpreter's path
    after = digests(services.last.root)
    assert [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)] == []
    assert len(before) > 1000


def digests(root):
    """Return the digest of each file's content in an image, and of each link's target."""
    files = [
        path for folder in ("app", "opt") for path in (root / folder).rglob("*") if path.is_symlink() or path.is_file()
    ]
    contents = {path: os.readlink(path).encode() if path.is_symlink() else path.read_bytes() for path in files}
    return {str(path.relative_to(root)): hashlib.sha256(content).hexdigest() for path, content in contents.items()}


def test_images_contain_no_tests_data_or_build_tools(services, worker):
    for built in (services, worker):
        names = {path.name for path in (built.last.root / "app").iterdir()}
        assert not names & {"tests", "data", "results", ".git", ".local"}
        assert not list(built.last.root.glob("opt/uv"))
        assert not list(built.last.root.glob("opt/venv/lib/*/site-packages/pytest"))


def test_every_command_of_the_chart_exists_in_its_image(services, worker):
    for pod in pods(render("staging")).values():
        for container in containers(pod):
            built = {"kefu/services": services, "kefu/worker": worker}[container["image"].rpartition(":")[0]]
            _, how, what, *_ = container["command"]
            code = f"import {what}.__main__" if how == "-m" else f"compile({what!r}, '', 'exec')"
            assert ended(built, ["python", "-c", code]) == (0, ""), container["command"]
            assert container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing_in_the_dockerfiles(path):
    """Every step with pip requires hashes, and none uses ADD."""
    done = subprocess.run([f"{sys.prefix}/bin/hadolint", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    for keyword, argument in instructions(path):
        assert keyword != "ADD"
        if keyword == "RUN" and "pip" in argument:
            assert argument.count("--require-hashes") == 1
