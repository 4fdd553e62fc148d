"""Programs that no package brings: those of `make tools`, or of this machine."""

import os
import shutil
import subprocess
import warnings

import pytest

from tests.chart.rendering import ROOT

TOOLS = ROOT / ".local" / "tools"


def tool(name):
    """Return a program's path; without it fails the test where `KEFU_TOOLS=required`, or else skips it.

    What `make tools` could not get, it has noted: then a test is skipped with a warning, which pytest repeats. Where
    `CI` is set it must have been run.
    """
    found = shutil.which(name, path=os.pathsep.join([str(TOOLS), os.environ["PATH"]]))
    if found:
        return found
    noted = TOOLS / f"{name}.missing"
    if os.environ.get("KEFU_TOOLS") == "required":
        pytest.fail(f"no {name}, and KEFU_TOOLS=required: `make tools` says why")
    if noted.exists():
        warnings.warn(f"NOT CHECKED BY {name}: it can't be had here: {noted.read_text().strip()}", stacklevel=2)
    elif os.environ.get("CI"):
        pytest.fail(f"no {name}: CI runs `make tools` first")
    pytest.skip(f"no {name} on this machine: `make tools`")


def run(*command, cwd=ROOT, text=None):
    """Return a command's status and all that it says; `text` is its input."""
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
