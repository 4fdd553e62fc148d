"""A PostgreSQL server of the tests' own from Debian's package, or the one that KEFU_TEST_POSTGRES_URL names."""

import asyncio
import contextlib
import glob
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ops.local.servers import free_port

POSTGRES_BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
URL_KEY = "KEFU_TEST_POSTGRES_URL"
USER = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
START_S = 120


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Give the URL of a server's database `postgres`; skip the test if PostgreSQL is not installed."""
    if os.environ.get(URL_KEY):
        yield os.environ[URL_KEY]
        return
    if not POSTGRES_BIN:
        pytest.skip(f"no PostgreSQL: `apt-get install postgresql`, or set {URL_KEY}")
    # Not below pytest's folders: a pytest that runs as root makes them unreadable for others, as for user postgres.
    folder = tempfile.mkdtemp(prefix="kefu-postgres-")
    try:
        if USER:
            shutil.chown(folder, USER)
        _as_postgres("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "kefu", "--no-sync")
        port = free_port()
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        control = ("pg_ctl", "-D", f"{folder}/data", "-w", "-t", f"{START_S}", "-l", f"{folder}/log")
        _as_postgres(*control, "-o", options, "start")
        try:
            yield f"postgresql://kefu@127.0.0.1:{port}/postgres"
        finally:
            _as_postgres(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres(program: str, *arguments: str) -> None:
    command = [str(Path(POSTGRES_BIN) / program), *arguments]
    subprocess.run(command, check=True, user=USER, cwd="/", stdout=subprocess.DEVNULL, timeout=2 * START_S)


def new_database(server_url: str) -> str:
    """Make an empty database on that server; return its URL."""
    name = f"shop_{uuid.uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(server_url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()

    asyncio.run(create())
    return server_url.rpartition("/")[0] + f"/{name}"
