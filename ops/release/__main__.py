"""`python -m ops.release -f yours.yaml status|start|check|canary|switch|back|apply|finish`: releases code and models.

The state is a file of values, `release.yaml`, to be kept with yours. `start` runs the new image or model beside the one
that serves, `canary` gives it some customers, `switch` all of them, `back` undoes the last of these two, `finish`
removes what doesn't serve.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ops.release.changes import Refused, Values
from ops.release.kubernetes import CHART, Kubernetes
from ops.release.steps import Release

DONE, REFUSED = 0, 1  # exit codes


def main(arguments: list[str]) -> int:
    """Run a command; return 0, or 1 after printing why it was refused."""
    options = _parser().parse_args(arguments)
    try:
        site = Kubernetes(options.name, options.namespace, options.values, options.chart)
        output = _do(Release(site, options.file, tenant=options.check_tenant), options)
    except Refused as refused:
        print(f"release: {refused}", file=sys.stderr)
        return REFUSED
    if output:
        print(output)
    return DONE


def differences(options: argparse.Namespace) -> Values:
    """Return the values that `start` replaces: images by digest or tag, the model by address and digest."""
    images = {kind: _image(getattr(options, kind)) for kind in ("services", "worker") if getattr(options, kind)}
    values: dict[str, Any] = {"image": images} if images else {}
    if bool(options.model_url) != bool(options.model_sha256):
        raise Refused("a model has both: --model-url and --model-sha256")
    if options.model_url:
        values["model"] = {"source": "fetch", "url": options.model_url, "sha256": options.model_sha256}
    return values


def _image(name: str) -> dict[str, str]:
    return {"tag": "", "digest": name} if name.startswith("sha256:") else {"tag": name, "digest": ""}


def _do(release: Release, options: argparse.Namespace) -> Any:
    command = options.command
    if command == "start":
        return release.start(differences(options))
    if command == "canary":
        return release.canary(options.tenants, options.percent)
    if command in ("check", "switch"):
        return getattr(release, command)(options.fewer)
    return getattr(release, command)()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.release", description=__doc__.splitlines()[0])
    parser.add_argument("-f", "--values", action="append", type=Path, default=[], help="your values, as Helm gets them")
    parser.add_argument("--file", type=Path, default=Path("release.yaml"), help="the release's values (release.yaml)")
    parser.add_argument("--name", default="kefu", help="the Helm release (kefu)")
    parser.add_argument("-n", "--namespace", default="default", help="its namespace")
    parser.add_argument("--check-tenant", default="", help="as whose customer a candidate is asked; nobody's")
    parser.add_argument("--chart", type=Path, default=CHART, help="the chart")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="who serves")
    starting = commands.add_parser("start", help="run new code or a new model beside what serves, and check it")
    starting.add_argument("--services", help="image of gateway and action server: a tag, or sha256:...")
    starting.add_argument("--worker", help="image of the workers, likewise")
    starting.add_argument("--model-url", help="address of the model's archive")
    starting.add_argument("--model-sha256", help="its digest")
    canary = commands.add_parser("canary", help="let the candidate answer some conversations")
    canary.add_argument("--tenants", nargs="+", default=[], help="whose, all of them")
    canary.add_argument("--percent", type=float, default=0, help="of the others', how many of a hundred")
    for name, what in (("check", "ask the candidate"), ("switch", "check it, then let it answer all")):
        commands.add_parser(name, help=what).add_argument(
            "--fewer", action="store_true", help="with fewer workers, gateways or action servers"
        )
    commands.add_parser("back", help="undo the last canary or switch, at once")
    commands.add_parser("apply", help="apply the file as it is: after a failure, or when it was edited")
    commands.add_parser("finish", help="remove the track that doesn't serve")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
