"""Programs that tests need and no Python package contains: from `make tools`, or from this machine."""

import os
import shutil
import subprocess
import warnings

import pytest

from tests.chart.rendering import ROOT

TOOLS = ROOT / ".local" / "tools"


def tool(name):
    """Return a program's path. A missing program fails the test with `KEFU_TOOLS=required`, and skips it otherwise.

    `make tools` leaves a note for each program that it could not get: the test is then skipped with a warning, which
    pytest repeats at the end. Where `CI` is set, a missing program without a note fails the test, too.
    """
    path = shutil.which(name, path=os.pathsep.join([str(TOOLS), os.environ["PATH"]]))
    if path:
        return path
    note = TOOLS / f"{name}.missing"
    if os.environ.get("KEFU_TOOLS") == "required":
        pytest.fail(f"no {name}, and KEFU_TOOLS=required: `make tools` says why")
    if note.exists():
        warnings.warn(f"NOT CHECKED BY {name}: it can't be had here: {note.read_text().strip()}", stacklevel=2)
    elif os.environ.get("CI"):
        pytest.fail(f"no {name}: CI runs `make tools` first")
    pytest.skip(f"no {name} on this machine: `make tools`")


def run(*command, cwd=ROOT, text=None):
    """Return a command's status and its output; `text` is its input."""
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
