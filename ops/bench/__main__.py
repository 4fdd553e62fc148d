"""`make bench`: measures stock Rasa and Kefu in rounds; writes `bench.json`, `bench.md` and `bench.png`.

`--short`: two minutes, fewer and shorter conversations, stock trained on a part of the phrases and without learned
policies. `--only stock` or `--only kefu`: measures one system, while tuning it. `--against COMMIT`: measures this build
and the build of a commit instead, and writes `against.json` and `against.md`.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from ops.bench import against, measure, report
from ops.bench.checkout import BuildError
from ops.bench.comparison import compare
from ops.bench.figures import figures
from ops.bench.plan import FULL, SHORT
from ops.local.servers import ROOT, services_python
from ops.local.stack import PATIENCE

SYSTEMS = ("stock", "kefu")


def main(arguments: List[str]) -> int:
    """Measure, print the table, write the files.

    Returns 0; 1 after printing why the commit can't be compared with; 130 after Ctrl-C. If a measured system fails,
    the error is raised.
    """
    options = _parser().parse_args(arguments)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the started processes are stopped
    began = time.monotonic()
    found: Dict[str, Any] = {"short": options.short, "machine": measure.machine()}
    try:
        with tempfile.TemporaryDirectory(prefix="kefu-bench-") as folder:
            if options.against is not None:
                against.measure(options.against, options.short, Path(folder), out, found)
            else:
                _measure(options, Path(folder), out, found)
    except BuildError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped; nothing was written", file=sys.stderr)
        return 130
    print(f"written to {out} ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench", description=__doc__)
    parser.add_argument("--short", action="store_true")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    what.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    return parser


def _measure(options: argparse.Namespace, folder: Path, out: Path, found: Dict[str, Any]) -> None:
    """Measure stock Rasa and Kefu, or one of them; print the table and write the files."""
    # A short run is checked by a test, also on a slow machine. The figures of a full run need the default time limits.
    settings = PATIENCE if options.short else {}
    found["systems"] = compare(SHORT if options.short else FULL, options.only, folder, settings)
    found["figures"] = figures(found["systems"])
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
