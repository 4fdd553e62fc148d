"""`python -m ops.load run SCENARIO`: puts load on an installation, judges it, compares it with the last accepted run.

`run` without `--url` starts everything on this machine. `accept SCENARIO` makes the last run the one to compare with.
Exit codes: 0 good; 1 a threshold is broken or it got worse; 2 it could not be run, or there is no run to accept. A
webhook is told of 1 and 2, and of a run that there was nothing to compare with.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

from ops.load import scenario, verdict
from ops.local.servers import LOCAL, ROOT
from ops.local.stack import Stack, free_ports

LOCUST = LOCAL / "load" / "bin" / "locust"
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
RESULTS = ROOT / "results" / "load"
GOOD, WORSE, UNRUN = 0, 1, 2  # exit codes
MARGIN_S = 180.0  # a run may take this much longer than its scenario; beyond it Locust is ended
TIMES = ("p50_ms", "p99_ms")  # the figures that --no-thresholds leaves out
NOTHING_ACCEPTED = "nothing to compare with: no run was accepted yet"
# Production's limits per customer and address are off: all load comes from one address.
NO_LIMITS = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0"}


def main(arguments: List[str]) -> int:
    """Run a scenario or accept its last run; return the exit code."""
    options = _parser().parse_args(arguments)
    last = options.results / f"{options.scenario}.json"
    accepted = options.accepted / f"{options.scenario}.json"
    if options.verb == "accept":
        return accept(last, accepted)
    wanted = scenario.load(options.scenario, options.scale)
    last.unlink(missing_ok=True)  # if this run fails, `accept` must not find an older one
    try:
        figures = run(wanted, options)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"load: {error}", file=sys.stderr)
        problem = f"{error.__class__.__name__}: {error}"
        text = f"Kefu's load test {wanted.name} could not be run: {problem}"
        tell(options.webhook, {"text": text, "scenario": wanted.name, "problems": [problem], "figures": {}})
        return UNRUN
    last.parent.mkdir(parents=True, exist_ok=True)
    last.write_text(json.dumps(figures, indent=1) + "\n")
    problems = verdict.broken(figures, _held(wanted.thresholds, options.no_thresholds))
    if not accepted.exists():
        return judge(figures, problems, options.webhook, NOTHING_ACCEPTED)
    return judge(figures, problems + verdict.regressions(figures, json.loads(accepted.read_text())), options.webhook)


def accept(last: Path, accepted: Path) -> int:
    """Make the last run, good or bad, the run that later runs are compared with; return the exit code."""
    if not last.exists():
        print(f"load: no run to accept: {last.name} is not there", file=sys.stderr)
        return UNRUN
    accepted.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(last, accepted)
    return GOOD


def _held(thresholds: Dict[str, float], no_times: bool) -> Dict[str, float]:
    """Return the thresholds to apply. With `no_times`, thresholds of times are left out: they depend on the machine."""
    return {name: limit for name, limit in thresholds.items() if not (no_times and name in TIMES)}


def run(wanted: scenario.Scenario, options: argparse.Namespace) -> Dict[str, Any]:
    """Run the load and return its figures. Raises RuntimeError if Locust ended with an error."""
    with tempfile.TemporaryDirectory(prefix="kefu-load-") as folder, installation(options, Path(folder)) as url:
        out = Path(folder) / "said.json"
        settings = {
            "KEFU_LOAD_SCENARIO": wanted.name,
            "KEFU_LOAD_SCALE": str(options.scale),
            "KEFU_LOAD_OUT": str(out),
            "KEFU_LOAD_SITE": options.site,
        }
        done = subprocess.run(
            [str(LOCUST), "-f", str(LOCUSTFILE), "--headless", "--host", url, "--only-summary", "--loglevel", "ERROR"],
            env={**os.environ, **settings},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=wanted.lasts_s + MARGIN_S,
            check=False,
        )
        if not out.exists():
            raise RuntimeError(f"Locust ended with {done.returncode}: {done.stderr[-1500:]}")
        return verdict.summary(json.loads(out.read_text()))


@contextmanager
def installation(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the URL of the installation under load. Without `--url`, start one here and stop it afterwards."""
    if options.url:
        yield options.url
        return
    stack = Stack(folder / "stack", free_ports(), tell=lambda _: None, overrides=NO_LIMITS)
    try:
        stack.start()
        yield stack.url("gateway")
    finally:
        stack.stop()


def judge(figures: Dict[str, Any], problems: List[str], webhook: str, *notes: str) -> int:
    """Print the verdict, tell the webhook about problems or notes, return the exit code.

    A note says that a run proves less than usual. It is no problem.
    """
    shown = {name: value for name, value in figures.items() if name != "windows"}
    print(json.dumps(shown))
    for sentence in (*problems, *notes):
        print(f"load: {sentence}", file=sys.stderr)
    if problems or notes:
        text = f"Kefu's load test {figures['scenario']}: " + "; ".join((*problems, *notes))
        details = {"problems": problems, "notes": list(notes), "figures": shown}
        tell(webhook, {"text": text, "scenario": figures["scenario"], **details})
    return WORSE if problems else GOOD


def tell(webhook: str, body: Dict[str, Any]) -> None:
    """Post to the webhook if there is one, and print a failure. Chat rooms show the body's `text`."""
    if not webhook:
        return
    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        webhook, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - likewise
            pass
    except (urllib.error.URLError, OSError) as error:
        print(f"load: the webhook was not told ({error.__class__.__name__})", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.load", description=__doc__)
    parser.add_argument("verb", choices=("run", "accept"))
    parser.add_argument("scenario", choices=scenario.names())
    parser.add_argument("--url", default="", help="of a gateway; left out, everything is started here")
    parser.add_argument("--site", default="demo:demo", help="tenant:site_key")
    parser.add_argument("--scale", type=float, default=1.0, help="of rates, customers and streams")
    parser.add_argument("--no-thresholds", action="store_true", help="without those of times: for machines that differ")
    parser.add_argument("--webhook", default=os.environ.get("KEFU_LOAD_WEBHOOK", ""))  # an address may be a secret
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--accepted", type=Path, default=RESULTS / "accepted")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
