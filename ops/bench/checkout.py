"""Makes a commit of this repository ready to run: its files in a temporary worktree, its environments, its model.

The commit's own `ops/local/setup.py` does that. Parts that would be equal to those of this checkout (an environment of
the same lock file, Kafka's jars, the model of the same sources) are linked or copied into the worktree before, with
their stamps, so that set-up skips them.
"""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

from ops.local import setup
from ops.local.servers import LOCAL, ROOT

STAMPS = Path(".local") / "stamps"
# The parts that this checkout shares, by the name below `.local`: the part's stamp, and the files that must be equal in
# both checkouts.
LENT: Tuple[Tuple[str, str, Tuple[str, ...]], ...] = (
    ("services", "environment-services", ("ops/requirements/dev.txt",)),
    ("worker", "environment-worker", ("ops/requirements/worker-dev.txt",)),
    ("kafka", "kafka-jars", ("ops/local/kafka/pom.xml", "ops/local/kafka/jars.sha256")),
    ("uv", "", ("ops/requirements/uv.txt",)),  # has no stamp: set-up checks whether it runs
)
MODEL, MODEL_STAMP = Path("models") / "kefu.tar.gz", STAMPS / "model"


class BuildError(Exception):
    """A build can't be measured. The text gives the reason and what to do."""


def commit_of(revision: str) -> str:
    """Return the full id of the commit that a revision names; raises BuildError if it names none."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode:
        raise BuildError(f"{revision} is no commit of this repository: fetch it, or name one that `git log` shows")
    return done.stdout.strip()


@contextlib.contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Return a context with a commit in a folder of its own, ready to run. The folder is removed in any case.

    Raises:
        BuildError: git can't check it out as it was committed, or its set-up fails.
    """
    root = folder / "checkout"
    try:
        done = _git("worktree", "add", "--quiet", "--detach", str(root), commit)
        if done.returncode:
            raise BuildError(f"{commit[:12]} can't be checked out: {_last(done.stderr)}; mend that and try again")
        _refuse_changes(root, commit)
        _lend(root, commit)
        _set_up(root, commit)
        yield root
    finally:
        _git("worktree", "remove", "--force", str(root))
        shutil.rmtree(root, ignore_errors=True)  # git leaves files behind if it could not complete the worktree
        _git("worktree", "prune")


def _refuse_changes(root: Path, commit: str) -> None:
    """Raise BuildError if the checkout differs from the commit: a filter or a line ending changed it."""
    # Without this, `git status` relies on the file times that git has just recorded, and doesn't read the files.
    _git("-C", str(root), "read-tree", "HEAD")
    changed = _git("-C", str(root), "status", "--porcelain").stdout.splitlines()
    if changed:
        raise BuildError(
            f"the checkout of {commit[:12]} differs from the commit in {len(changed)} files, first "
            f"{changed[0][3:]}: git changes them as it writes them, see core.autocrlf and the filters of .gitattributes"
        )


def _lend(root: Path, commit: str) -> None:
    """Link and copy the parts that are equal in both checkouts into the commit's worktree, with their stamps."""
    (root / STAMPS).mkdir(parents=True)
    for name, stamp, files in LENT:
        if (LOCAL / name).exists() and all(_same(root, file) for file in files) and _fresh(stamp, files):
            (root / ".local" / name).symlink_to(LOCAL / name)
            if stamp:
                _copy(ROOT / STAMPS / stamp, root / STAMPS / stamp)
    kept = _kept(commit)
    for path in (MODEL, MODEL_STAMP):
        _copy((kept if kept.is_dir() else ROOT) / path, root / path)


def _fresh(stamp: str, files: Tuple[str, ...]) -> bool:
    """Return whether this checkout's part is up to date. If not, the commit's set-up would change it by the link."""
    return not stamp or setup.Stamp(stamp, [ROOT / file for file in files]).fresh()


def _set_up(root: Path, commit: str) -> None:
    """Run the commit's own set-up. If it has trained a model, the model is kept for the next comparison."""
    done = subprocess.run(
        [sys.executable, "ops/local/setup.py"], cwd=root, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise BuildError(
            f"{commit[:12]} can't be set up: {_last(done.stderr)}; check it out and run `make train` to see all of it"
        )
    if not _same(root, str(MODEL_STAMP)):
        for path in (MODEL, MODEL_STAMP):
            _copy(root / path, _kept(commit) / path)


def _kept(commit: str) -> Path:
    """Return the folder that keeps a commit's model, for a commit that can't use this checkout's model."""
    return LOCAL / "bench" / f"commit-{commit[:12]}"


def _same(root: Path, file: str) -> bool:
    paths = ROOT / file, root / file
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()


def _copy(source: Path, target: Path) -> None:
    """Copy a file, if it exists, and create the target's folder."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _last(text: str) -> str:
    lines: List[str] = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
