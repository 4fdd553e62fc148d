"""Stock Rasa: the project's domain and data with Rasa's default pipeline and policies, in one `rasa run`.

The differences to Rasa's default configuration, and their reasons:

- `RegexEntityExtractor` and a regular expression find order numbers, as the project's own reader does, so that a
  conversation has the same turns. `data/nlu` has no annotations, so DIET could learn no entities: its entity
  recognition is off, which makes stock faster.
- `language: en`, because the default tokenizer refuses `zh`. No other component depends on it.
- The trained components have a seed, so that each training gives the same model.
- `make bench SHORT=1` leaves out TED and UnexpecTED, and trains on a part of the phrases: see `Training` in `plan`.
- The slot `language` stays empty, so that the last, bilingual variant of each response is uttered.
"""

import hashlib
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Dict, List, Mapping
from urllib.parse import urlsplit

import yaml

from ops.bench.plan import Training
from ops.bench.scripts import INTENTS
from ops.bench.shop import add_customers
from ops.local.phrases import of_file
from ops.local.servers import HOST, LOCAL, ROOT, die_with_parent, free_port, services_python
from ops.local.stack import Stack, free_ports

READY_S = 600.0  # longest wait for the start: 20 s on an idle machine, minutes on a busy one
STOP_S = 20.0  # longest wait until stock Rasa has ended; beyond it it is killed
SEED = 7  # of the training, so that the turns of a conversation don't depend on chance
QUIET = {"RASA_TELEMETRY_ENABLED": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}

# Source: rasa/shared/importers, the default configuration that `rasa init` writes.
CONFIG = """\
recipe: default.v1
assistant_id: stock
language: en
pipeline:
  - name: WhitespaceTokenizer
  - name: RegexFeaturizer
  - name: LexicalSyntacticFeaturizer
  - name: CountVectorsFeaturizer
  - name: CountVectorsFeaturizer
    analyzer: char_wb
    min_ngram: 1
    max_ngram: 4
  - name: DIETClassifier
    epochs: {epochs}
    random_seed: {seed}
    constrain_similarities: true
    entity_recognition: false
  - name: RegexEntityExtractor
  - name: EntitySynonymMapper
  - name: ResponseSelector
    epochs: {epochs}
    random_seed: {seed}
    constrain_similarities: true
  - name: FallbackClassifier
    threshold: 0.3
    ambiguity_threshold: 0.1
policies:
  - name: MemoizationPolicy
  - name: RulePolicy
"""
LEARNED_POLICIES = """\
  - name: UnexpecTEDIntentPolicy
    max_history: 5
    epochs: {epochs}
    random_seed: {seed}
  - name: TEDPolicy
    max_history: 5
    epochs: {epochs}
    random_seed: {seed}
    constrain_similarities: true
"""
# RegexEntityExtractor uses a regular expression only if an example is annotated with an entity of its name.
REGEX = """\
version: "3.1"
nlu:
  - intent: track_order
    examples: |
      - where is my order [20260001](order_number)
  - regex: order_number
    examples: |
      - 20\\d{6}
"""
CREDENTIALS = "rest:\n"
ENDPOINTS = """\
tracker_store: {{type: redis, url: {host}, port: {port}, db: 0}}
lock_store: {{type: redis, url: {host}, port: {port}, db: 1}}
action_endpoint: {{url: "{actions}"}}
"""


def train(training: Training) -> Path:
    """Return the folder of a stock Rasa project with a trained model. It is made only once for the same inputs."""
    config = CONFIG + (LEARNED_POLICIES if training.learned_policies else "")
    config = config.format(epochs=training.epochs, seed=SEED)
    folder = LOCAL / "bench" / f"stock-{_digest(f'{config}{training}')}"
    if (folder / "models" / "stock.tar.gz").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "data", folder / "data")
    shutil.copy(ROOT / "domain.yml", folder)
    (folder / "config.yml").write_text(config)
    if training.phrases is not None:
        for file in (folder / "data" / "nlu").glob("*.yml"):
            _shorten(file, training.phrases)
    (folder / "data" / "nlu" / "regex.yml").write_text(REGEX)
    began = time.monotonic()
    print(f"… stock Rasa's model trained ({training.epochs} epochs)", flush=True)
    command = [str(services_python("worker")), "-m", "rasa", "train", "--fixed-model-name", "stock", "--out", "new"]
    command += ["--skip-validation"]  # `tests/dialogue` validates the same data
    done = subprocess.run(command, cwd=folder, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"stock Rasa can't be trained:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (folder / "new").rename(folder / "models")
    print(f"✓ stock Rasa's model trained ({time.monotonic() - began:.0f} s)", flush=True)
    return folder


def _shorten(file: Path, phrases: int) -> None:
    """Keep that many phrases of each intent, taken evenly from the whole list; the scripts' intents keep all."""
    by_intent: Dict[str, List[str]] = {}
    for intent, phrase in of_file(file):
        by_intent.setdefault(intent, []).append(phrase)
    blocks = []
    for intent, examples in by_intent.items():
        kept = examples if intent in INTENTS else examples[:: max(1, len(examples) // phrases)]
        blocks.append({"intent": intent, "examples": "".join(f"- {each}\n" for each in kept)})
    file.write_text(yaml.safe_dump({"version": "3.1", "nlu": blocks}, allow_unicode=True), encoding="utf-8")


def _digest(config: str) -> str:
    digest = hashlib.sha256((config + REGEX).encode())
    sources = [ROOT / "domain.yml", ROOT / "ops" / "requirements" / "worker.txt"]
    for path in [*sources, *sorted((ROOT / "data").rglob("*.yml"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class StockSystem:
    """One `rasa run` on Redis, with the same action server and shop as Kefu."""

    name = "stock"
    worker_metrics = ""  # stock Rasa has no metrics

    def __init__(self, directory: Path, training: Training, settings: Mapping[str, str]) -> None:
        self._folder = train(training)
        self._directory = directory
        self._stack = Stack(directory, free_ports(), tell=lambda _: None, overrides=settings)
        self._port = free_port()
        self._rasa: subprocess.Popen[bytes]
        self.start_s = 0.0

    @property
    def model(self) -> Path:
        """The trained model."""
        return self._folder / "models" / "stock.tar.gz"

    @property
    def jobs(self) -> Dict[str, str]:
        """The fields of a `Job` by which the load generator reaches the system."""
        return {"url": f"http://{HOST}:{self._port}"}

    @property
    def actions_metrics(self) -> str:
        """The URL of the action server's metrics."""
        return f"http://{HOST}:{self._stack.ports['KEFU_ACTION_HEALTH_PORT']}"

    def start(self) -> None:
        """Start Redis, shop, action server and Rasa; return when Rasa answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stack.redis.start()
        self._stack.redis.wait_ready()
        self._stack.start_actions()
        add_customers(self._stack.shop_database)
        self._start_rasa()

    def stop(self) -> None:
        """Stop Rasa and its servers."""
        if hasattr(self, "_rasa"):
            self._rasa.terminate()
            try:
                self._rasa.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._rasa.kill()
        self._stack.stop()
        self._stack.redis.stop()

    def pids(self) -> Dict[str, int]:
        """Return the process ids by name; `worker` is the process that runs Rasa."""
        own = {name: self._stack.pid(name) for name in ("actions", "shop")}
        return {"worker": self._rasa.pid, "redis": self._stack.redis.pid, **own}

    def _start_rasa(self) -> None:
        redis = urlsplit(self._stack.redis.url)
        files = {
            "credentials.yml": CREDENTIALS,
            "endpoints.yml": ENDPOINTS.format(
                host=redis.hostname, port=redis.port, actions=f"{self._stack.url('actions')}/webhook"
            ),
        }
        for name, content in files.items():
            (self._directory / name).write_text(content)
        began = time.monotonic()
        with open(self._directory / "rasa.log", "ab") as log:
            self._rasa = subprocess.Popen(
                self._command(), cwd=self._directory, stdout=log, stderr=log,
                env={**os.environ, **QUIET}, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._wait_ready(began + READY_S)
        self.start_s = time.monotonic() - began

    def _command(self) -> List[str]:
        run = [str(services_python("worker")), "-m", "rasa", "run", "-m", str(self.model), "-i", HOST]
        return [*run, "-p", str(self._port), "--endpoints", "endpoints.yml", "--credentials", "credentials.yml"]

    def _wait_ready(self, end: float) -> None:
        while True:
            try:
                with urllib.request.urlopen(f"{self.jobs['url']}/webhooks/rest/", timeout=5):  # noqa: S310 - our own
                    return
            except OSError:
                if time.monotonic() > end or self._rasa.poll() is not None:
                    tail = (self._directory / "rasa.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"stock Rasa does not start:\n{tail}") from None
            time.sleep(0.1)
