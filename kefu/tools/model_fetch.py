"""`python -m kefu model fetch URL --sha256 HEX --to PATH`: gets a trained model before a worker starts.

In: a URL in the company's store of models. Out: the whole archive at PATH with the expected digest, or exit code 1 and
no file. It uses only Python's standard library, so that it runs in both images.
"""

import argparse
import hashlib
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import List

from kefu.errors import ModelUnfetched

TRIES = 5  # attempts before the command fails
BACKOFF_S = 1.0  # pause after the first failed attempt; doubles after each further one
TIMEOUT_S = 30.0  # longest wait for the next bytes of the store; beyond it the attempt has failed
CHUNK_BYTES = 1024 * 1024  # how much of a file is in memory at a time
MAX_BYTES = 2 * 1024**3  # limits the archive, so that a wrong URL can't fill the disk; beyond it the command fails


def main(arguments: List[str]) -> int:
    """Run the command; returns 0. Raises ModelUnfetched."""
    parser = argparse.ArgumentParser(prog="python -m kefu model", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="fetch")
    fetching = commands.add_parser("fetch", help="get a model's archive and check its digest")
    fetching.add_argument("url", help="https:// or http:// address of the archive")
    fetching.add_argument("--sha256", required=True, help="the archive's digest, 64 hex digits")
    fetching.add_argument("--to", required=True, type=Path, help="where to put it")
    options = parser.parse_args(arguments)
    print(fetch(options.url, options.sha256.lower(), options.to))
    return 0


def fetch(url: str, sha256: str, target: Path, backoff_s: float = BACKOFF_S) -> str:
    """Download the model's archive, unless `target` has it already. Blocks. Returns a line that reports the result.

    Raises:
        ModelUnfetched: the archive can't be fetched, or has another digest than `sha256`.
    """
    if not url.startswith(("https://", "http://")):
        raise ModelUnfetched("the address must begin with https:// or http://")
    if target.is_file() and _digest(target) == sha256:
        return f"{target}: is there"
    for left in range(TRIES - 1, -1, -1):
        try:
            return _once(url, sha256, target)
        except (urllib.error.URLError, OSError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code in (400, 401, 403, 404, 410)
            if final or not left:
                raise ModelUnfetched(f"{target.name} can't be fetched: {error}") from error
        time.sleep(backoff_s)
        backoff_s *= 2
    raise AssertionError("unreachable")


def _once(url: str, sha256: str, target: Path) -> str:
    part = target.with_name(f"{target.name}.part")
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer, part.open("wb") as file:  # noqa: S310 - checked
        while chunk := answer.read(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_BYTES:
                raise ModelUnfetched(f"{target.name} is larger than {MAX_BYTES} bytes")
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        part.unlink()
        raise ModelUnfetched(f"{target.name} has the digest {digest.hexdigest()}, {sha256} was asked for")
    os.replace(part, target)  # atomic, so that `target` is never half a model
    return f"{target}: {size} bytes"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()
