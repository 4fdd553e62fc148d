"""The commands of a release: change the values, apply them, wait until the workers follow them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import yaml

from ops.release import changes
from ops.release.changes import Refused, Values

# Longest wait until the workers follow a change. A kubelet may take a minute and a half to write a changed ConfigMap.
SETTLED_S = 300.0
LOOK_S = 0.5  # between two looks at the workers
INBOX = "user.query"
DOORS = ("gateway", "actions")  # components behind a Kubernetes Service
HEAD = "# Written by python -m ops.release, read by Helm after your own values. Keep it with them.\n"


class Site(Protocol):
    """An installation of Kefu. Every method raises Refused if it fails or takes too long."""

    def expect_free(self) -> None:
        """Check that the installation can be changed now. Raises Refused while another change is running."""
        ...

    def apply(self, file: Path, wait: bool) -> None:
        """Apply the installation's values and this file; with `wait`, return once its pods are ready."""
        ...

    def ask(self, track: str, *words: str) -> tuple[int, str]:
        """Run `python -m kefu release WORDS` in a worker's pod of the track; return exit code and output."""
        ...

    def ready(self) -> dict[str, int]:
        """Return the number of ready pods of each component, named as `gateway` and `gateway-green`."""
        ...


class Release:
    """A release of one installation; its values are in a file."""

    def __init__(self, site: Site, file: Path, say: Callable[[str], Any] = print, tenant: str = "") -> None:
        """Create the commands for one installation.

        Args:
            site: the installation.
            file: values of the release; missing before the first release.
            say: prints a message about each step.
            tenant: tenant of the test messages to a candidate; empty for none.
        """
        self._site, self._file, self._say, self._tenant = site, file, say, tenant

    @property
    def values(self) -> Values:
        """The values in the file. Raises Refused if it is not a release's file."""
        if not self._file.exists():
            return changes.NOTHING
        values = yaml.safe_load(self._file.read_text()) or {}
        if set(values) != {"release"} or set(values["release"]) != set(changes.NOTHING):
            raise Refused(f"{self._file} is no file of a release")
        return values["release"]

    def status(self) -> str:
        """Return the tracks and their workers, as lines of text."""
        values = self.values
        lines = [f"{values['active']} is active" + (f", {values['former']} was before" if values["former"] else "")]
        if changes.has_canary(values):
            lines.append("canary: {percent} %, tenants {tenants}".format(**values["canary"]))
        for track, workers in self._workers(values["active"]).items():
            for each in workers:
                figures = "{inbox}, model {model}, {turns} turns, {failed} failed".format(**each)
                lines.append(f"{track}: {figures}")
        return "\n".join(lines)

    def start(self, differences: Values) -> None:
        """Run a candidate and check it. It may have fewer workers until `switch`."""
        self._apply(changes.start(self.values, differences))
        self.check(fewer=True, otherwise="it runs, and no customer's message goes to it; `finish` removes it")

    def check(self, fewer: bool = False, otherwise: str = "nothing was changed") -> None:
        """Let the candidate's workers answer test messages, and compare them with the active ones.

        Args:
            fewer: accept a candidate with fewer workers.
            otherwise: end of the refusal's text, about the state that remains.

        Raises:
            Refused: there is no candidate, or its check failed.
        """
        values = self.values
        if not values["candidate"] or values["former"]:
            raise Refused("there is no candidate to check")
        words = [*(["--fewer"] if fewer else []), *(["--tenant", self._tenant] if self._tenant else [])]
        code, output = self._site.ask(changes.other(values["active"]), "check", *words)
        self._say(output.strip())
        if code:
            raise Refused(f"the candidate isn't fit: {otherwise}")

    def canary(self, tenants: list[str], percent: float) -> None:
        """Check the candidate, then let it answer some conversations."""
        wanted = changes.canary(self.values, tenants, percent)
        self.check(fewer=True)
        self._apply(wanted)

    def switch(self, fewer: bool = False) -> None:
        """Check the candidate, then let it answer all conversations; return once its workers read the inbox."""
        wanted = changes.switch(self.values)
        self.check(fewer)
        self._compare_doors(wanted["active"], fewer)
        self._apply(wanted)
        self._wait_for_readers(wanted["active"])

    def back(self) -> None:
        """Undo the last step at once: without a check, and without waiting for pods to be ready."""
        before, wanted = self.values, changes.back(self.values)
        self._apply(wanted, wait=False)
        if wanted["active"] != before["active"]:
            self._wait_for_readers(wanted["active"])

    def finish(self) -> None:
        """Remove the track that isn't active."""
        self._apply(changes.finish(self.values))

    def apply(self) -> None:
        """Apply the file as it is: after a failure, or after it was edited."""
        self._apply(self.values)

    def _apply(self, wanted: Values, wait: bool = True) -> None:
        """Write the wanted values to the file, then apply it. If that fails, the file keeps the wanted values.

        While another change is running, the file stays as it is, so that the command can be repeated.
        """
        self._site.expect_free()
        draft = self._file.with_name(f"{self._file.name}.draft")
        draft.write_text(HEAD + yaml.safe_dump({"release": wanted}, sort_keys=False))
        draft.replace(self._file)
        self._site.apply(self._file, wait)
        self._say(f"{self._file}: {wanted['active']} is active, canary {wanted['canary']}")

    def _compare_doors(self, track: str, fewer: bool) -> None:
        """Refuse a track with too few gateways or action servers: Services move all requests to it at once."""
        ready = self._site.ready()
        for part in DOORS:
            own, others = (
                ready.get(part if each == "blue" else f"{part}-green", 0) for each in (track, changes.other(track))
            )
            if not own:
                raise Refused(f"no pod of {part} is ready in {track}: nothing was changed")
            if own < others and not fewer:
                raise Refused(f"{own} pods of {part} are ready in {track}, {others} in the other track: see --fewer")

    def _wait_for_readers(self, active: str) -> None:
        """Wait until exactly the workers of the active track read the inbox. Raises Refused after SETTLED_S."""
        until = time.monotonic() + SETTLED_S
        while True:
            workers = self._workers(active)
            late = [each for each in workers[active] if each["inbox"] != INBOX]
            stay = [each for each in workers[changes.other(active)] if each["inbox"] == INBOX]
            if workers[active] and not late and not stay:
                self._say(f"{len(workers[active])} workers of {active} read the inbox")
                return
            if time.monotonic() > until:
                raise Refused(f"{len(late)} workers of {active} don't read the inbox yet, {len(stay)} others still do")
            time.sleep(LOOK_S)

    def _workers(self, track: str) -> dict[str, list[dict[str, Any]]]:
        code, output = self._site.ask(track, "status")
        if code:
            raise Refused(f"no worker of {track} could be asked: {output.strip()[-300:]}")
        return json.loads(output.strip().splitlines()[-1])
