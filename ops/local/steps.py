"""How setup.py runs its steps: a stamp for each, a line with its time, and what to do when it fails.

Standard library only, Python 3.8 or newer.
"""

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
STAMPS = LOCAL / "stamps"
LOGS = LOCAL / "logs"
TAIL_LINES = 15
ATTEMPTS = 3
PAUSE_S = 3.0

_printing = threading.Lock()


class StepFailed(Exception):
    """A step can't go on; the message says what happened and what to do."""


def say(text: str) -> None:
    """Print a whole line at once: steps run side by side."""
    with _printing:
        print("setup: " + text, flush=True)


def fingerprint(paths: Iterable[Path], *extra: str) -> str:
    """Return the SHA-256 over names and contents of files (directories: all below), and `extra`."""
    digest = hashlib.sha256("\0".join(extra).encode())
    for path in sorted(each for given in paths for each in _files(given)):
        digest.update(f"\0{os.path.relpath(str(path), str(ROOT))}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(path: Path) -> List[Path]:
    if path.is_file():
        return [path]
    return [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]


def step(name: str, doing: str, inputs: str, output: Path, work: Callable[[], None]) -> bool:
    """Do `work` unless it was done for the same inputs and its output is there.

    Args:
        inputs: fingerprint of all that the result depends on.
        output: what `work` makes; its absence makes the stamp void.

    Returns:
        Whether there was anything to do.

    Raises:
        StepFailed: from `work`.
    """
    stamp = STAMPS / name
    if output.exists() and stamp.is_file() and stamp.read_text() == inputs:
        return False
    forget(name)
    say(f"{doing} ...")
    began = time.monotonic()
    work()
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(inputs)
    say(f"{doing}: done in {time.monotonic() - began:.1f} s")
    return True


def forget(name: str) -> None:
    """Take a step's stamp away: it is done again."""
    if (STAMPS / name).exists():
        (STAMPS / name).unlink()


def run(command: List[str], log: str, env: Optional[Dict[str, str]] = None) -> None:
    """Run a command from the root, its output in `.local/logs/<log>.log`.

    Raises:
        StepFailed: with the end of the output.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{log}.log"
    with path.open("wb") as output:
        try:
            code = subprocess.call(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=str(ROOT), env=env
            )
        except OSError as error:
            raise StepFailed(f"{command[0]} can't be started: {error.strerror}") from error
    if code:
        tail = path.read_text(errors="replace").strip().splitlines()[-TAIL_LINES:]
        shown = "\n".join("    " + line for line in tail)
        raise StepFailed(f"`{Path(command[0]).name}` ended with {code}, all of it in .local/logs/{log}.log:\n{shown}")


def with_retries(work: Callable[[], None], never: str = "hash mismatch", pause_s: float = PAUSE_S) -> None:
    """Do `work` up to three times: networks fail for a moment. A wrong checksum is never retried.

    Args:
        never: words (in any case) of a failure that another attempt does not mend.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except StepFailed as error:
            if attempt == ATTEMPTS or never in str(error).lower():
                raise
            say(f"attempt {attempt} of {ATTEMPTS} failed, again in {pause_s * attempt:.0f} s\n{error}")
            time.sleep(pause_s * attempt)
