"""Finds uv and the Python interpreters on this machine, and installs uv where it is missing.

Standard library only, Python 3.8 or newer. pyenv's shims are avoided: they exist for versions that
are not switched on, and end with 127 then, which uv takes for a broken interpreter.
"""

import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from steps import LOCAL, ROOT, StepFailed, run, say

Version = Tuple[int, ...]

UV_OLDEST = (0, 5)
UV_PINNED = ROOT / "ops/requirements/uv.txt"
NO_UV = """uv is not on this machine and no Python here can install it (no working pip).
    Do one of these, then start again:
      apt-get install python3-venv python3-pip   (Debian, Ubuntu; as root)
      pip install uv                             (or pipx, brew, dnf: any way to have `uv` on the PATH)"""


def output_of(command: List[str]) -> str:
    """Return what a command prints, or nothing when it fails or hangs."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def version_in(text: str) -> Version:
    """Return the first dotted number in `text` as integers; empty when there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def homes() -> List[Path]:
    """Return the user's home directories: by the environment and by the user database."""
    listed = [os.environ.get("HOME", ""), pwd.getpwuid(os.getuid()).pw_dir]
    return [Path(home) for home in dict.fromkeys(listed) if home]


def program_folders() -> Iterator[Path]:
    """Yield where real programs are: pyenv's versions first, newest first, then the usual places."""
    roots = [Path(os.environ["PYENV_ROOT"])] if os.environ.get("PYENV_ROOT") else []
    roots += [home / ".pyenv" for home in homes()]
    for root in roots:
        found = [path for path in root.glob("versions/*/bin") if path.is_dir()]
        yield from sorted(found, key=lambda path: version_in(path.parent.name), reverse=True)
    for home in homes():
        yield from (home / ".local/bin", home / ".cargo/bin")
    for folder in os.environ.get("PATH", "").split(os.pathsep) + ["/usr/local/bin", "/usr/bin"]:
        if folder and "shims" not in Path(folder).parts:
            yield Path(folder)


def find_python(*wanted: Tuple[int, int]) -> Optional[Path]:
    """Return an interpreter of the first version of `wanted` that is here and complete."""
    check = "import ctypes, lzma, sqlite3, ssl, sys, zlib; print('%d.%d' % sys.version_info[:2])"
    folders = list(program_folders())
    for major, minor in wanted:
        for folder in folders:
            binary = folder / f"python{major}.{minor}"
            if binary.is_file() and version_in(output_of([str(binary), "-c", check])) == (major, minor):
                return binary
    return None


def find_uv() -> Optional[Path]:
    """Return a working uv that is new enough."""
    for folder in [LOCAL / "uv/bin", *program_folders()]:
        binary = folder / "uv"
        if binary.is_file() and version_in(output_of([str(binary), "--version"])) >= UV_OLDEST:
            return binary
    return None


def pythons() -> List[str]:
    """Return every Python 3 that may have a pip, this one first."""
    found = [sys.executable]
    for folder in program_folders():
        found += [str(path) for path in sorted(folder.glob("python3*")) if re.fullmatch(r"python3(\.\d+)?", path.name)]
    return list(dict.fromkeys(found))


def install_uv() -> Path:
    """Install the pinned uv into .local/uv, by a venv or by `pip install --target`.

    Raises:
        StepFailed: no Python here has a pip that works.
    """
    target = LOCAL / "uv"
    options = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(UV_PINNED)]
    problem = ""
    for python in pythons():
        for ways in ("venv", "target"):
            shutil.rmtree(str(target), ignore_errors=True)
            try:
                if ways == "venv":
                    run([python, "-m", "venv", str(target)], "uv")
                    run([str(target / "bin/python"), "-m", "pip", *options], "uv")
                else:
                    run([python, "-m", "pip", *options, "--target", str(target)], "uv")
            except StepFailed as error:
                problem = str(error)
                continue
            say(f"installed uv into .local/uv by {python} ({ways})")
            return target / "bin/uv"
    raise StepFailed(f"{NO_UV}\n    The last attempt: {problem}")
