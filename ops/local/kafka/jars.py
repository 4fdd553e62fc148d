"""Copies the jars that pom.xml names to a directory with the package jgo, on a machine without Maven.

Run by ops/local/setup.py in the services environment: `python jars.py POM DIRECTORY`. The repositories are those of jgo
(Maven Central, by its own settings). setup.py checks the digests of the jars.
"""

import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.maven import POM, MavenContext

DOWNLOADS = 8  # jars that are fetched at a time
TIMEOUT_S = 60  # longest wait for an answer of the repository


def copy_jars(pom: Path, target: Path) -> int:
    """Download all runtime dependencies of `pom`, direct and transitive; return the number of jars."""
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache), timeout=TIMEOUT_S)
        _, nodes = context.pom_dependency_list(POM(pom))
        jars = [node.dep.artifact for node in nodes]
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for path in pool.map(lambda jar: jar.resolve(), jars):
                shutil.copy(path, target / path.name)
    return len(jars)


if __name__ == "__main__":
    copy_jars(Path(sys.argv[1]), Path(sys.argv[2]))
