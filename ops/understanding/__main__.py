"""`python -m ops.understanding [MODEL]`: measures the trained model; writes `ops/model-card.md` and `.json`.

Runs in the services environment. The parts that load the model or train run in the worker's environment, with Rasa.
Takes about a minute.
"""

import json
import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kefu.worker.nlu.language import detect
from ops.local.phrases import of_file
from ops.understanding.card import written

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / ".local" / "worker" / "bin" / "python"
CARD = ROOT / "ops" / "model-card.md"
_TIMEOUT_S = 600  # longest time of one measurement


def main() -> None:
    """Measure and write; raises `CalledProcessError` if the model can't be loaded."""
    model = sys.argv[1] if len(sys.argv) > 1 else "models/kefu.tar.gz"
    figures = {
        "data": _counts(),
        **_measured("ops.understanding.crossed"),
        "held_out": _measured("ops.understanding.heldout", model),
        "cpu_ms": _measured("ops.bench.nlu", "kefu", model),
        "footprint": _measured("ops.understanding.footprint", model),
        "machine": _machine(),
    }
    for found in (figures["held_out"]["intents"], *figures["held_out"]["entities"].values()):
        del found["missed"]  # an author who has read the missed phrases would write training phrases like them
    CARD.write_text(written(figures), encoding="utf-8")
    kept = json.dumps(figures, ensure_ascii=False, indent=1, sort_keys=True)
    CARD.with_suffix(".json").write_text(kept + "\n", encoding="utf-8")
    print(f"wrote {CARD.relative_to(ROOT)}")


def _measured(module: str, *arguments: str) -> Any:
    command = [str(WORKER), "-W", "ignore", "-m", module, *arguments]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(command, cwd=ROOT, env=quiet, stdout=subprocess.PIPE, check=True, timeout=_TIMEOUT_S)
    return json.loads(ended.stdout.splitlines()[-1])


def _counts() -> dict[str, Any]:
    """Return the number of training phrases by language, and the number of intents."""
    counts: Counter = Counter()
    intents = set()
    for file in sorted((ROOT / "data" / "nlu").glob("*.yml")):
        for intent, text in of_file(file):
            intents.add(intent)
            language = detect(text)
            counts[language.value if language else "other"] += 1
    return {"phrases": dict(counts), "intents": len(intents)}


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
