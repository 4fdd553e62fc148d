"""Prepares a machine: installs the environments and Kafka's jars, and trains the model.

`python3 ops/local/setup.py [--no-train] [--ops] [--load]`. It runs on any Python from 3.8 on, without packages. A step
is skipped if its inputs have not changed since it was last done here. It prints how long it took, or what to do if it
failed.

`--run` is `make run`: as soon as the services are installed, this process becomes `ops.local.run`, which starts the
servers while a child process (`--model`) installs Rasa and trains.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
REQUIREMENTS = ROOT / "ops" / "requirements"
KAFKA = ROOT / "ops" / "local" / "kafka"
UV_REQUIREMENTS = REQUIREMENTS / "uv.txt"
PIP_INSTALL = ["-m", "pip", "install", "-q", "--require-hashes", "-r", str(UV_REQUIREMENTS)]
# Source: the plugin's own releases. Without a version, the plugin's version would depend on that of Maven.
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
# The system's store of certificate authorities. Companies add their own to it, but uv and requests don't use it by
# default.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
TRIES = 3  # attempts of a download before its step fails
# Environment, its Python, its requirements.
ENVIRONMENTS = (("services", "3.12", "dev.txt"), ("worker", "3.10", "worker-dev.txt"))
# Has the tools that check the chart, the images and the compose file. `make run` doesn't need it.
OPS_ENVIRONMENT = ("ops", "3.12", "ops.txt")
LOAD_ENVIRONMENT = ("load", "3.12", "load.txt")  # of `make load` and its tests
# Seconds that a step takes the first time, by the step's first word. Used for the estimate of the time left.
USUAL_S = {"environment": 30.0, "model": 30.0, "Kafka's": 15.0, "uv": 5.0}
MODEL_SETUP = "KEFU_MODEL_SETUP"  # variable by which `ops.local.run` gets the id of the process that trains the model
LONGEST_S = 1800  # a step that takes longer prints no more estimates
ACCEPTED_WARNINGS = ROOT / "tests" / "dialogue" / "accepted_warnings.txt"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WARNING = re.compile(r"/rasa/\S*: (?:User|Future)Warning: (.+)")
NEWER = ("3.13", "3.14")  # versions that the services environment may use if 3.12 is missing


class StepFailed(Exception):
    """A step of the set-up failed; the text says what to do."""


def main(arguments: List[str]) -> int:
    """Do the steps that are not done yet; return 0, or 1 after printing the failure."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    LOCAL.mkdir(exist_ok=True)
    trust_system()
    try:
        with alone("uv"):
            uv = find_uv()
        if "--run" in arguments:
            run(uv)
        wanted = "--no-train" not in arguments
        steps = [lambda: worker_and_model(uv, wanted)]
        if "--model" not in arguments:
            steps.append(lambda: services_and_jars(uv, cache="--ops" in arguments))
        if "--ops" in arguments:
            steps.append(lambda: one_environment(uv, *OPS_ENVIRONMENT))
        if "--load" in arguments:
            steps.append(lambda: one_environment(uv, *LOAD_ENVIRONMENT))
        together(steps)
    except StepFailed as error:
        print(f"\nset-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"set up ({time.monotonic() - started:.1f} s)", flush=True)
    return 0


def run(uv: str) -> None:
    """Become `ops.local.run`, with the set-up of the model as its child process. Raises StepFailed."""
    model = subprocess.Popen([sys.executable, str(Path(__file__)), "--model"], cwd=ROOT)
    try:
        services_and_jars(uv)
    except BaseException:  # Ctrl-C and SIGTERM too: the child must not go on alone
        model.terminate()
        model.wait()
        raise
    python = str(LOCAL / "services" / "bin" / "python")
    os.chdir(ROOT)
    os.execve(python, [python, "-m", "ops.local.run"], {**os.environ, MODEL_SETUP: str(model.pid)})  # noqa: S606 - ours


@contextlib.contextmanager
def alone(part: str) -> Iterator[None]:
    """Hold the lock of a part of the set-up: of two commands at once, the second finds that part done."""
    with (LOCAL / f"setup-{part}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def trust_system() -> None:
    """Make uv and jgo trust the machine's certificate authorities, unless the environment has other settings."""
    os.environ.setdefault("UV_SYSTEM_CERTS", "true")
    if AUTHORITIES.is_file():
        os.environ.setdefault("REQUESTS_CA_BUNDLE", str(AUTHORITIES))


def find_uv() -> str:
    """Return the path of uv: the machine's own, or the one in `.local/uv`, which is installed if necessary."""
    own = LOCAL / "uv"
    candidates = [shutil.which("uv"), own / "bin" / "uv", *_pyenv("uv")]
    for candidate in candidates:
        if candidate and _works([str(candidate), "--version"]):
            return str(candidate)
    step = Step("uv installed")
    for python in _pythons():
        for command in (
            [python, *PIP_INSTALL, "--target", str(own)],
            [python, "-m", "venv", str(own)],
        ):
            if _works(command):
                if "venv" in command:
                    _works([str(own / "bin" / "python"), *PIP_INSTALL])
                if _works([str(own / "bin" / "uv"), "--version"]):
                    step.done()
                    return str(own / "bin" / "uv")
    raise StepFailed(
        "uv can't be installed: this machine's Python has neither pip nor venv. "
        "Install one (Debian: apt-get install python3-venv) or uv itself, then try again."
    )


def environment(uv: str, name: str, version: str, requirements: str) -> None:
    """Create an environment, or bring it up to its hash-locked requirements."""
    path, locked = LOCAL / name, REQUIREMENTS / requirements
    stamp = Stamp(f"environment-{name}", [locked])
    python = path / "bin" / "python"
    if stamp.fresh() and _works([str(python), "-c", "pass"]):
        return
    step = Step(f"environment {name} installed from {locked.relative_to(ROOT)}")
    if not _works([str(python), "-c", "pass"]):
        _run([uv, "venv", "-q", "--clear", "--python", interpreter(version), str(path)], f"Python {version} is missing")
    sync = [uv, "pip", "sync", "-q", "--python", str(python), "--require-hashes", str(locked)]
    _run(sync, "check the connection to the package index", tries=TRIES)
    stamp.write()
    step.done()


def interpreter(version: str) -> str:
    """Return the path of an interpreter of this version, or the version itself, which uv then downloads.

    pyenv's shims are not used, because they end with 127 for a version that is not selected.
    """
    wanted = (version, *NEWER) if version != "3.10" else (version,)
    for each in wanted:
        places = _pyenv(f"python{each}")
        places += [Path(f"/usr/bin/python{each}"), Path(f"/usr/local/bin/python{each}")]
        for place in places:
            if _works([str(place), "-c", "import ssl, venv"]):
                return str(place)
    return version


def worker_and_model(uv: str, wanted: bool) -> None:
    """Install the worker's environment, then train the model: it needs Rasa, but no other step."""
    with alone("model"):
        environment(uv, *ENVIRONMENTS[1])
        if wanted:
            train()


def one_environment(uv: str, name: str, version: str, requirements: str) -> None:
    """Install an environment that no other step needs."""
    with alone(name):
        environment(uv, name, version, requirements)


def services_and_jars(uv: str, cache: bool = False) -> None:
    """Install the services environment, then get Kafka's jars: without Maven they are fetched by its package jgo.

    Args:
        uv: the program that installs environments.
        cache: also make the cache of Kafka's classes. It costs as much CPU as eight starts of a broker save.
    """
    with alone("services"):
        environment(uv, *ENVIRONMENTS[0])
        jars()
        if cache:
            kafka_cache()


def jars() -> None:
    """Get Kafka's jars by their Maven coordinates, and check the digest of each jar."""
    pom, sums = KAFKA / "pom.xml", KAFKA / "jars.sha256"
    target = LOCAL / "kafka" / "libs"
    stamp = Stamp("kafka-jars", [pom, sums])
    if stamp.fresh() and target.is_dir() and not wrong_jars(target, sums):
        return
    fresh = target.with_name("libs.new")
    for way, command in _ways_to_get(pom, fresh):
        step = Step(f"Kafka's jars fetched by {way}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        if any(_works(command) for _ in range(TRIES)) and not wrong_jars(fresh, sums):
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
            stamp.write()
            step.done()
            return
    wrong = wrong_jars(fresh, sums) or ["none arrived"]
    raise StepFailed(f"Kafka's jars are not what {sums.relative_to(ROOT)} lists: {', '.join(wrong[:5])}")


def kafka_cache() -> None:
    """Make the cache of the classes that Kafka loads at its start; without it brokers only start more slowly."""
    stamp = Stamp("kafka-cache", [KAFKA / "jars.sha256", REQUIREMENTS / ENVIRONMENTS[0][2]])
    if stamp.fresh():
        return
    step = Step("Kafka's classes cached")
    command = [str(LOCAL / "services" / "bin" / "python"), "-m", "ops.local.kafka_cache"]
    try:
        _run(command, "brokers will take twice as long to start")
    except StepFailed as error:
        print(f"! {error}", flush=True)  # nothing depends on it
    else:
        stamp.write()
        step.done()


def _ways_to_get(pom: Path, target: Path) -> Iterable:
    if shutil.which("mvn") and _works(["mvn", "-v"]):
        goal = [COPY_JARS, f"-DoutputDirectory={target}"]
        yield "Maven", ["mvn", "-q", "-B", "-f", str(pom), *goal]
    yield "jgo", [str(LOCAL / "services" / "bin" / "python"), str(KAFKA / "jars.py"), str(pom), str(target)]


def wrong_jars(directory: Path, sums: Path) -> List[str]:
    """Return the names of jars that are missing, not listed in `sums`, or of another content than listed."""
    listed = {name: digest for digest, name in map(str.split, sums.read_text().splitlines())}
    present = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    return sorted(name for name in listed.keys() | present.keys() if listed.get(name) != present.get(name))


def train() -> None:
    """Train the model if its data, its configuration or the code of NLU has changed since the last training."""
    sources = [ROOT / "config.yml", ROOT / "domain.yml"]
    sources += [path for folder in ("domain", "data") for path in sorted((ROOT / folder).rglob("*.*"))]
    sources += [*sorted((ROOT / "kefu" / "worker" / "nlu").rglob("*")), REQUIREMENTS / "worker.txt"]
    stamp = Stamp("model", [path for path in sources if path.is_file() and path.suffix != ".pyc"])
    if stamp.fresh() and (ROOT / "models" / "kefu.tar.gz").is_file():
        return
    step = Step("model trained")
    python = str(LOCAL / "worker" / "bin" / "python")
    quiet = {"RASA_TELEMETRY_ENABLED": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    rasa = [python, "-m", "ops.local.train", "--fixed-model-name", "kefu", "--out", str(LOCAL / "train")]
    output = _run(rasa, "mend config.yml, domain.yml or data/ as the lines above say", environment=quiet)
    (ROOT / "models").mkdir(exist_ok=True)
    os.replace(LOCAL / "train" / "kefu.tar.gz", ROOT / "models" / "kefu.tar.gz")  # atomic: it is never half a model
    stamp.write()
    step.done()
    for line in rasa_warnings(output):
        print(f"  ! {line}", flush=True)
    subprocess.run([python, "-m", "ops.local.training", "models/kefu.tar.gz"], cwd=ROOT, check=True)


def rasa_warnings(output: str) -> List[str]:
    """Return Rasa's warnings about the data, each once, without the accepted ones and those of other libraries."""
    accepted = ACCEPTED_WARNINGS.read_text(encoding="utf-8").splitlines() if ACCEPTED_WARNINGS.is_file() else []
    warnings = (text.strip() for text in _WARNING.findall(_COLOUR.sub("", output)))
    return [text for text in dict.fromkeys(warnings) if text not in accepted]


class Step:
    """A step under way. Every ten seconds it prints an estimate of the time left; `done` prints the time it took."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._took = LOCAL / "stamps" / "took" / hashlib.sha256(what.encode()).hexdigest()[:16]
        self._ended = threading.Event()
        print(f"… {what}", flush=True)
        threading.Thread(target=self._tell, args=(threading.current_thread(),), daemon=True).start()

    def done(self) -> None:
        """Print that the step is done, and keep the time it took for the next estimate."""
        self._ended.set()
        took = time.monotonic() - self._started
        self._took.parent.mkdir(parents=True, exist_ok=True)
        self._took.write_text(str(took))
        print(f"✓ {self._what} ({took:.1f} s)", flush=True)

    def _tell(self, maker: threading.Thread) -> None:
        """Print estimates until the step is done, or until the thread that does it has ended with an error."""
        try:
            usual = float(self._took.read_text())
        except (OSError, ValueError):
            usual = USUAL_S.get(self._what.split()[0], USUAL_S["environment"])
        while not self._ended.wait(10) and maker.is_alive():
            passed = time.monotonic() - self._started
            if passed > LONGEST_S:
                return
            left = f"about {usual - passed:.0f} s left" if usual > passed else "longer than usual"
            print(f"… {self._what}: {passed:.0f} s, {left}", flush=True)


class Stamp:
    """The digest of the inputs with which a step was done last, kept in `.local/stamps`."""

    def __init__(self, name: str, inputs: Iterable[Path]) -> None:
        self._path = LOCAL / "stamps" / name
        digest = hashlib.sha256()
        for path in inputs:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
        self._digest = digest.hexdigest()

    def fresh(self) -> bool:
        """Return whether the step was last done with the present inputs, so that it can be skipped."""
        return self._path.is_file() and self._path.read_text() == self._digest

    def write(self) -> None:
        """Remember that the step was done with the present inputs."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._digest)


def together(steps: List[Callable[[], None]]) -> None:
    """Do steps in parallel. Raises the first failure after all steps have ended."""
    if len(steps) == 1:  # in the main thread, so that a signal ends the step and the program that it runs
        return steps[0]()
    failures: List[BaseException] = []

    def run(step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _pyenv(program: str) -> List[Path]:
    """Return the paths of a program in pyenv's versions, newest first. HOME may differ from the user's home."""
    homes = [Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)]
    roots = [Path(os.environ.get("PYENV_ROOT") or homes[0] / ".pyenv"), *(home / ".pyenv" for home in homes)]
    paths = [path for root in dict.fromkeys(roots) for path in root.glob(f"versions/*/bin/{program}")]
    return sorted(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])], reverse=True)


def _pythons() -> List[str]:
    pythons = [sys.executable, shutil.which("python3"), "/usr/bin/python3", *map(str, _pyenv("python3"))]
    return list(dict.fromkeys(python for python in pythons if python))


def _works(command: List[str]) -> bool:
    try:
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _run(command: List[str], advice: str, tries: int = 1, environment: Optional[Dict[str, str]] = None) -> str:
    """Run a command and return its output. After the last failed try, print the output and raise StepFailed."""
    for left in range(tries - 1, -1, -1):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
        if left:
            time.sleep(2)
    print(done.stdout.decode("utf-8", "replace")[-4000:], file=sys.stderr)
    raise StepFailed(f"`{' '.join(Path(part).name for part in command[:3])} …` ended with {done.returncode}: {advice}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
