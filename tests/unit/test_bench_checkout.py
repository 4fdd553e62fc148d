"""The worktree of a commit that a bench compares with: what it shares with this tree, what is refused, what stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from ops.bench import build, checkout
from ops.bench.build import Build
from ops.bench.checkout import BuildError, checked_out, commit_of
from ops.local import setup
from ops.local.setup import Stamp

SETUP = """\
import sys
from pathlib import Path
root = Path(__file__).resolve().parents[2]
failure = root / "failure"
if failure.exists():
    sys.exit("set-up failed: " + failure.read_text())
if not (root / "models" / "kefu.tar.gz").exists() or (root / "config.yml").read_text() != (
    root / ".local" / "stamps" / "model"
).read_text():
    for path, text in (("models/kefu.tar.gz", "trained"), (".local/stamps/model", (root / "config.yml").read_text())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
"""
STACK = """\
class Stack:
    def __init__(self, directory, ports, tell, overrides):
        (directory / "logs").mkdir()
        (directory / "logs" / "worker.log").write_text("no module")
    def start(self):
        raise RuntimeError("not ready: worker: nothing answers. Look into /somewhere")
    def stop(self):
        pass
def free_ports():
    return {}
"""


class Repository:
    """A repository with a set-up of its own, and the results of that set-up in `.local` and `models`."""

    def __init__(self, root):
        self.root = root
        self.git("init", "-q")
        self.commit(**{"ops/local/setup.py": SETUP, "config.yml": "pipeline", "ops/requirements/dev.txt": "one"})
        self.write(".local/services/marker", "environment")
        Stamp("environment-services", [root / "ops" / "requirements" / "dev.txt"]).write()
        self.write(".local/stamps/model", "pipeline")
        self.write("models/kefu.tar.gz", "model")

    def git(self, *arguments):
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        done = subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(text.encode())

    def commit(self, **files):
        for path, text in files.items():
            self.write(path, text)
        self.git("add", "--", *files)
        self.git("commit", "-q", "-m", "one")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    root.mkdir()
    for module in (checkout, setup):
        monkeypatch.setattr(module, "ROOT", root)
        monkeypatch.setattr(module, "LOCAL", root / ".local")
    return Repository(root)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path


def nothing_is_left(repository, folder):
    return not list(folder.iterdir()) and len(repository.git("worktree", "list").splitlines()) == 1


def test_bench_against_an_unknown_commit_is_refused(repository):
    with pytest.raises(BuildError, match="nonsense is no commit of this repository: fetch it, or name one"):
        commit_of("nonsense")
    assert commit_of("HEAD") == repository.git("rev-parse", "HEAD")


def test_checkout_uses_this_trees_environment_and_model_if_equal(repository, folder):
    """Their sources are the same in both commits."""
    with checked_out(commit_of("HEAD"), folder) as root:
        assert (root / ".local" / "services" / "marker").read_text() == "environment"
        assert (root / "models" / "kefu.tar.gz").read_text() == "model"


def test_checkout_with_other_sources_gets_its_own_environment(repository, folder):
    older = commit_of("HEAD")
    repository.commit(**{"config.yml": "other pipeline", "ops/requirements/dev.txt": "two"})
    repository.write(".local/stamps/model", "other pipeline")
    with checked_out(older, folder) as root:
        assert not (root / ".local" / "services").exists()
        assert (root / "models" / "kefu.tar.gz").read_text() == "trained"
    assert (repository.root / "models" / "kefu.tar.gz").read_text() == "model"


def test_outdated_environment_is_not_shared_with_a_checkout(repository, folder):
    """The commit's set-up would update it through the link, while processes of this tree use it."""
    repository.write(".local/stamps/environment-services", "of another lock file")
    with checked_out(commit_of("HEAD"), folder) as root:
        assert not (root / ".local" / "services").exists()


def test_model_trained_for_a_commit_is_kept_for_the_next_bench(repository, folder):
    older = commit_of("HEAD")
    repository.commit(**{"config.yml": "other pipeline"})
    repository.write(".local/stamps/model", "other pipeline")
    with checked_out(older, folder):
        pass
    kept = repository.root / ".local" / "bench" / f"commit-{older[:12]}" / "models" / "kefu.tar.gz"
    kept.write_text("trained before")
    with checked_out(older, folder) as root:
        assert (root / "models" / "kefu.tar.gz").read_text() == "trained before"


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, None])
def test_worktree_of_a_bench_is_removed_however_it_ends(repository, folder, end):
    try:
        with checked_out(commit_of("HEAD"), folder):
            if end:
                raise end
    except (KeyboardInterrupt, RuntimeError) as error:
        assert type(error) is end
    assert nothing_is_left(repository, folder)


def test_a_checkout_that_differs_from_its_commit_is_refused(repository, folder):
    """A git filter changes a file at the checkout."""
    commit = repository.commit(**{".gitattributes": "*.txt filter=loud\n", "a.txt": "quiet\n"})
    repository.git("config", "filter.loud.smudge", "tr a-z A-Z")
    with (
        pytest.raises(BuildError, match=r"differs from the commit in .* first a\.txt: git changes them"),
        checked_out(commit, folder),
    ):
        pass
    assert nothing_is_left(repository, folder)


def test_failed_set_up_of_a_commit_is_reported_with_its_last_line(repository, folder):
    commit = repository.commit(failure="no package index")
    with (
        pytest.raises(BuildError, match="can't be set up: set-up failed: no package index; check it out"),
        checked_out(commit, folder),
    ):
        pass
    assert nothing_is_left(repository, folder)


def test_build_that_does_not_start_reports_why_and_keeps_its_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "LOCAL", tmp_path / "local")
    root = tmp_path / "root"
    for path, text in (("servers.py", "HOST = ''"), ("stack.py", STACK), ("__init__.py", "")):
        (root / "ops" / "local").mkdir(parents=True, exist_ok=True)
        (root / "ops" / "local" / path).write_text(text)
    python = root / ".local" / "services" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(Path(sys.executable).resolve())
    system = Build("1234567", root, tmp_path / "data")
    with pytest.raises(BuildError, match=r"1234567 does not start \(not ready: worker: nothing answers\): its logs"):
        system.start()
    system.stop()
    assert (tmp_path / "local" / "bench" / "logs" / "1234567" / "worker.log").read_text() == "no module"
