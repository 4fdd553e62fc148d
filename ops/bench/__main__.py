"""`make bench`: stock Rasa and Kefu, one after the other; writes `bench.json`, `bench.md` and `bench.png`.

`--short`: two minutes, fewer and shorter conversations, stock trained for two epochs. `--only stock`
or `--only kefu`: while tuning; the other's figures are then missing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from ops.bench import measure, report, stock
from ops.bench.kefu import KefuSystem
from ops.bench.phases import measure_kefu, measure_stock
from ops.bench.scenarios import FULL, SHORT
from ops.local.servers import ROOT, services_python
from ops.local.stack import PATIENCE

SYSTEMS = ("stock", "kefu")


def main(arguments: List[str]) -> int:
    """Measure, print the table, write the files. Returns 0; a system that breaks ends it with its reason."""
    options = _parser().parse_args(arguments)
    plan = SHORT if options.short else FULL
    settings = PATIENCE if options.short else {}  # a test judges it, on whatever machine; figures are of the defaults
    began = time.monotonic()
    found: Dict[str, Any] = {"short": options.short, "machine": measure.machine(), "systems": {}}
    with tempfile.TemporaryDirectory(prefix="kefu-bench-") as folder:
        if "stock" in options.only:
            epochs = stock.SHORT_EPOCHS if options.short else stock.FULL_EPOCHS
            found["systems"]["stock"] = measure_stock(stock.StockSystem(Path(folder) / "stock", epochs, settings), plan)
        if "kefu" in options.only:
            found["systems"]["kefu"] = measure_kefu(KefuSystem(Path(folder) / "kefu", settings), plan)
    found["figures"] = report.figures(found["systems"])
    found["took_s"] = time.monotonic() - began
    _write(options.out.resolve(), found)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    return parser


def _write(out: Path, found: Dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table = report.table(found)
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "bench.md").write_text(table)
    print(table)
    # matplotlib comes with Rasa.
    plot = [str(services_python("worker")), "-W", "ignore", "-m", "ops.bench.plot"]
    drawn = [*plot, str(out / "bench.json"), str(out / "bench.png")]
    done = subprocess.run(drawn, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the plot can't be drawn:\n{done.stderr[-2000:]}")
    print(f"written to {out}/bench.json, bench.md and bench.png ({found['took_s']:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
