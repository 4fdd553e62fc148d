"""Sets this machine up: environments, Kafka's jars, the trained model. Run by the Makefile.

`python3 ops/local/setup.py` with any Python from 3.8 on, standard library only. Every step is
skipped when its inputs have not changed since it was done.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Tuple

from interpreters import find_python, find_uv, install_uv, output_of
from steps import LOCAL, ROOT, StepFailed, fingerprint, forget, run, say, step, with_retries

REQUIREMENTS = ROOT / "ops/requirements"
# The locks are made for the first version of each; a newer one takes the same pins.
WORKER = ("worker", "worker-dev.txt", ((3, 10),))
SERVICES = ("services", "dev.txt", ((3, 12), (3, 13), (3, 14)))
# In this order: dev is constrained by services, worker-dev by worker.
LOCKS = {"uv": "3.8", "services": "3.12", "dev": "3.12", "worker": "3.10", "worker-dev": "3.10"}

KAFKA = ROOT / "ops/local/kafka"
LIBS = LOCAL / "kafka/libs"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"

MODEL = ROOT / "models/kefu.tar.gz"
QUIET = {"RASA_TELEMETRY_ENABLED": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def uv() -> Path:
    """Return uv, installed into .local/uv if the machine has none. Raises StepFailed."""
    return find_uv() or install_uv()


def environment(name: str, requirements: str, versions: Tuple[Tuple[int, int], ...]) -> bool:
    """Make `.local/<name>` hold exactly what the lock file says. Raises StepFailed."""
    folder, lock = LOCAL / name, REQUIREMENTS / requirements
    python = folder / "bin/python"

    def work() -> None:
        binary, tool = find_python(*versions), uv()
        wanted = str(binary) if binary else "%d.%d" % versions[0]
        if not binary:
            say(f"no Python {wanted} on this machine: uv fetches one")
        env = {**os.environ, "UV_HTTP_TIMEOUT": "120", "UV_NO_PROGRESS": "1", "VIRTUAL_ENV": ""}
        if version_of(python) not in versions:
            shutil.rmtree(str(folder), ignore_errors=True)
            with_retries(lambda: run([str(tool), "venv", "--python", wanted, str(folder)], name, env))
        sync = [str(tool), "pip", "sync", "--require-hashes", "--python", str(python), str(lock)]
        with_retries(lambda: run(sync, name, env))

    # A venv holds absolute paths: a moved tree needs a new one.
    return step(name, f"environment .local/{name}", fingerprint([lock], str(ROOT)), python, work)


def version_of(python: Path) -> Tuple[int, ...]:
    """Return major and minor version of an interpreter."""
    shown = output_of([str(python), "-c", "import sys; print(*sys.version_info[:2])"])
    return tuple(int(part) for part in shown.split())


def wanted_jars() -> Dict[str, str]:
    """Return file name to SHA-256 of every jar of Kafka, as committed."""
    lines = (KAFKA / "jars.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def wrong_jars(folder: Path, wanted: Dict[str, str]) -> List[str]:
    """Return what is missing in `folder`, too much, or not the file whose sum is committed."""
    present = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    wrong = [f"{name} is missing" for name in sorted(set(wanted) - set(present))]
    wrong += [f"{name} does not belong there" for name in sorted(set(present) - set(wanted))]
    for name in sorted(set(wanted) & set(present)):
        if hashlib.sha256(present[name].read_bytes()).hexdigest() != wanted[name]:
            wrong.append(f"{name} has a wrong SHA-256 sum")
    return wrong


def kafka_jars(services: "Future[bool]") -> bool:
    """Get Kafka's jars by Maven if it works, else by jgo from the services environment."""

    def work() -> None:
        new = LIBS.with_name("libs.new")
        for get in [by_maven] * bool(output_of(["mvn", "--version"])) + [by_jgo]:
            shutil.rmtree(str(new), ignore_errors=True)
            new.mkdir(parents=True)
            try:
                get(new, services)
                break
            except StepFailed as error:
                if get is by_jgo:
                    raise StepFailed(f"{error}\n    Is Maven Central (or your mirror of it) within reach?") from error
                say(f"Maven did not get the jars, now by jgo\n{error}")
        if wrong_jars(new, wanted_jars()):
            problems = "; ".join(wrong_jars(new, wanted_jars())[:5])
            raise StepFailed(f"Kafka's jars are not those of ops/local/kafka/jars.sha256: {problems}")
        shutil.rmtree(str(LIBS), ignore_errors=True)
        new.rename(LIBS)

    if set(wanted_jars()) != {path.name for path in LIBS.glob("*")}:
        shutil.rmtree(str(LIBS), ignore_errors=True)
    inputs = fingerprint([KAFKA / "pom.xml", KAFKA / "jars.sha256"])
    return step("kafka", "Kafka 4.2 in .local/kafka", inputs, LIBS, work)


def by_maven(target: Path, services: "Future[bool]") -> None:
    """Copy the jars with the machine's own Maven."""
    run(["mvn", "-q", "-B", "-f", str(KAFKA / "pom.xml"), COPY, f"-DoutputDirectory={target}"], "maven")


def by_jgo(target: Path, services: "Future[bool]") -> None:
    """Copy the jars with jgo, which needs neither Maven nor Java but the services environment."""
    services.result()
    command = [str(LOCAL / "services/bin/python"), str(KAFKA / "jars.py"), str(KAFKA / "pom.xml"), str(target)]
    with_retries(lambda: run(command, "jgo"))


def training_inputs() -> List[Path]:
    """Return all that the model depends on: the designers' files and the components they name."""
    found = [ROOT / "config.yml", ROOT / "domain.yml", ROOT / "domain", ROOT / "data"]
    config = (ROOT / "config.yml").read_text(encoding="utf-8")
    for module in re.findall(r"name:\s*[\"']?(kefu(?:\.\w+)+)\.\w+", config):
        found.append((ROOT / module.replace(".", "/")).parent)
    return [path for path in dict.fromkeys(found) if path.exists()]


def train(force: bool = False) -> bool:
    """Train the model into models/kefu.tar.gz if what it is made of changed. Raises StepFailed."""

    def work() -> None:
        out = LOCAL / "train"
        command = [str(LOCAL / "worker/bin/python"), "-m", "rasa", "train", "--fixed-model-name", "kefu"]
        try:
            run([*command, "--out", str(out)], "train", {**os.environ, **QUIET})
        except StepFailed as error:
            raise StepFailed(f"{error}\n    `.local/worker/bin/rasa data validate` tells what is wrong") from error
        MODEL.parent.mkdir(exist_ok=True)
        os.replace(str(out / MODEL.name), str(MODEL))  # whoever reads sees the old model or the new one

    inputs = fingerprint([*training_inputs(), REQUIREMENTS / "worker.txt"])
    if force:
        forget("model")
    return step("model", "model models/kefu.tar.gz", inputs, MODEL, work)


def lock_requirements() -> None:
    """Compile every requirements file again. Raises StepFailed."""
    options = ["--generate-hashes", "--no-emit-index-url", "--no-header", "--quiet"]
    env = {**os.environ, "UV_NO_PROGRESS": "1"}
    os.chdir(str(REQUIREMENTS))  # relative names, so that no path of this machine gets into the files
    for name, version in LOCKS.items():
        base = [str(uv()), "--directory", str(REQUIREMENTS), "pip", "compile", *options]
        run([*base, "--python-version", version, f"{name}.in", "-o", f"{name}.txt"], "lock", env)
        say(f"ops/requirements/{name}.txt is compiled")


def everything(options: argparse.Namespace) -> bool:
    """Run the steps, downloads side by side. Returns whether anything was done."""
    with ThreadPoolExecutor(3) as pool:
        if not all((LOCAL / name / "bin/python").exists() for name in ("worker", "services")):
            uv()  # once, before two threads ask for it
        services = pool.submit(environment, *SERVICES)
        worker = pool.submit(environment, *WORKER)
        jars = pool.submit(kafka_jars, services)
        done = [future.result() for future in (services, worker, jars)]
    if not options.no_train:
        done.append(train(options.force_train))
    return any(done)


def main() -> int:
    """Read the options, hold the lock, run the steps; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-train", action="store_true", help="leave the model as it is")
    parser.add_argument("--force-train", action="store_true", help="train even if nothing changed")
    parser.add_argument("--lock", action="store_true", help="compile the requirements files again, nothing else")
    options = parser.parse_args()
    LOCAL.mkdir(exist_ok=True)
    began = time.monotonic()
    with (LOCAL / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two targets of make at once: the second finds all done
            if options.lock:
                lock_requirements()
            elif not everything(options):
                say(f"all is up to date ({time.monotonic() - began:.1f} s)")
        except StepFailed as error:
            say(f"FAILED: {error}")
            return 1
        except KeyboardInterrupt:
            say("stopped; start again to go on where it was")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
