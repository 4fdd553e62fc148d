"""A PostgreSQL of our own from Debian's package, or the one that KEFU_TEST_POSTGRES_URL names."""

import asyncio
import contextlib
import glob
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.integration.shop_fixtures import free_port

POSTGRES_BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
URL_KEY = "KEFU_TEST_POSTGRES_URL"


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Give the URL of a server's database `postgres`; skips the test where there is none."""
    if os.environ.get(URL_KEY):
        yield os.environ[URL_KEY]
        return
    if not POSTGRES_BIN:
        pytest.skip(f"no PostgreSQL: `apt-get install postgresql`, or set {URL_KEY}")
    port = free_port()
    _as_postgres(folder, "initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "kefu", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    control = ("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"))
    _as_postgres(folder, *control, "-o", options, "start")
    try:
        yield f"postgresql://kefu@127.0.0.1:{port}/postgres"
    finally:
        _as_postgres(folder, *control, "-m", "immediate", "stop")


def _as_postgres(folder: Path, program: str, *arguments: str) -> None:
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        subprocess.run(["chown", "-R", user, str(folder)], check=True)
        for parent in list(folder.parents)[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    command = [str(Path(POSTGRES_BIN) / program), *arguments]
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, timeout=60)


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
