"""Copy the jars that pom.xml names to a directory by the package jgo, where there is no Maven.

Run by ops/local/setup.py in the services environment: `python jars.py POM DIRECTORY`. Repositories
are those of jgo (Maven Central, by its own settings). What arrives is checked by setup.py.
"""

import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.maven import POM, MavenContext

DOWNLOADS = 8
TIMEOUT_S = 60


def copy_jars(pom: Path, target: Path) -> int:
    """Download every runtime dependency of `pom`, also transitive ones; returns how many jars."""
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache), timeout=TIMEOUT_S)
        _, found = context.pom_dependency_list(POM(pom))
        jars = [node.dep.artifact for node in found]
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for path in pool.map(lambda jar: jar.resolve(), jars):
                shutil.copy(path, target / path.name)
    return len(jars)


if __name__ == "__main__":
    copy_jars(Path(sys.argv[1]), Path(sys.argv[2]))
