"""The commands: change the values, have them applied, wait until the workers do as they say."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import yaml

from ops.release import changes
from ops.release.changes import Refused, Values

SETTLED_S = 300.0  # a kubelet may take a minute and a half to write a changed ConfigMap
LOOK_S = 0.5
INBOX = "user.query"
DOORS = ("gateway", "actions")  # what a Service leads to
HEAD = "# Written by python -m ops.release, read by Helm after your own values. Keep it with them.\n"


class Site(Protocol):
    """Where Kefu runs. Every method raises Refused where it can't be done, or isn't in time."""

    def expect_free(self) -> None:
        """Return if the installation can be changed now; raises Refused while another change hasn't ended."""
        ...

    def apply(self, file: Path, wait: bool) -> None:
        """Make the installation what its values and this file say; `wait` until its pods are ready, or for nothing."""
        ...

    def ask(self, track: str, *words: str) -> tuple[int, str]:
        """Run `python -m kefu release WORDS` in a worker's pod of the track; returns exit code and output."""
        ...

    def ready(self) -> dict[str, int]:
        """Return how many pods of each component are ready, by names as `gateway` and `gateway-green`."""
        ...


class Release:
    """A release of one installation, its values in a file."""

    def __init__(self, site: Site, file: Path, say: Callable[[str], Any] = print, tenant: str = "") -> None:
        """Prepare.

        Args:
            site: the installation.
            file: its release's values; missing before the first release.
            say: is told what was done.
            tenant: as whose customer a candidate is asked; empty for nobody's.
        """
        self._site, self._file, self._say, self._tenant = site, file, say, tenant

    @property
    def values(self) -> Values:
        """What the file says; raises Refused for one that isn't a release's."""
        if not self._file.exists():
            return changes.NOTHING
        found = yaml.safe_load(self._file.read_text()) or {}
        if set(found) != {"release"} or set(found["release"]) != set(changes.NOTHING):
            raise Refused(f"{self._file} is no file of a release")
        return found["release"]

    def status(self) -> str:
        """Return who serves, as lines."""
        values = self.values
        lines = [f"{values['active']} is active" + (f", {values['former']} was before" if values["former"] else "")]
        if changes.has_canary(values):
            lines.append("canary: {percent} %, tenants {tenants}".format(**values["canary"]))
        for track, workers in self._workers(values["active"]).items():
            for each in workers:
                told = "{inbox}, model {model}, {turns} turns, {failed} failed".format(**each)
                lines.append(f"{track}: {told}")
        return "\n".join(lines)

    def start(self, differences: Values) -> None:
        """Run a candidate and ask it; that it has few workers matters when it is switched to."""
        self._apply(changes.start(self.values, differences))
        self.check(fewer=True, otherwise="it runs, and no customer's message goes to it; `finish` removes it")

    def check(self, fewer: bool = False, otherwise: str = "nothing was changed") -> None:
        """Have the candidate's workers answer test messages, and compare them with the active ones.

        Args:
            fewer: though it has fewer workers.
            otherwise: what to say of the state of things where it isn't fit.

        Raises:
            Refused: there is no candidate, or something speaks against it.
        """
        values = self.values
        if not values["candidate"] or values["former"]:
            raise Refused("there is no candidate to check")
        words = [*(["--fewer"] if fewer else []), *(["--tenant", self._tenant] if self._tenant else [])]
        code, said = self._site.ask(changes.other(values["active"]), "check", *words)
        self._say(said.strip())
        if code:
            raise Refused(f"the candidate isn't fit: {otherwise}")

    def canary(self, tenants: list[str], percent: float) -> None:
        """Have the candidate, once checked, answer some."""
        wanted = changes.canary(self.values, tenants, percent)
        self.check(fewer=True)
        self._apply(wanted)

    def switch(self, fewer: bool = False) -> None:
        """Have the candidate, once checked, answer all; returns when it does."""
        wanted = changes.switch(self.values)
        self.check(fewer)
        self._compare_doors(wanted["active"], fewer)
        self._apply(wanted)
        self._wait_for_readers(wanted["active"])

    def back(self) -> None:
        """Undo the last step; nothing is asked or checked before, nor waited for what is bad to be ready."""
        before, wanted = self.values, changes.back(self.values)
        self._apply(wanted, wait=False)
        if wanted["active"] != before["active"]:
            self._wait_for_readers(wanted["active"])

    def finish(self) -> None:
        """Remove the track that doesn't serve."""
        self._apply(changes.finish(self.values))

    def apply(self) -> None:
        """Apply the file as it is: again, after that failed, or because somebody has edited it."""
        self._apply(self.values)

    def _apply(self, wanted: Values, wait: bool = True) -> None:
        """Write the file, which says what is wanted whether or not it can be had, then apply it.

        Before that, ask whether it can be tried at all: a `back` that isn't noted yet can be given again.
        """
        self._site.expect_free()
        draft = self._file.with_name(f"{self._file.name}.draft")
        draft.write_text(HEAD + yaml.safe_dump({"release": wanted}, sort_keys=False))
        draft.replace(self._file)
        self._site.apply(self._file, wait)
        self._say(f"{self._file}: {wanted['active']} is active, canary {wanted['canary']}")

    def _compare_doors(self, track: str, fewer: bool) -> None:
        """Refuse a track whose gateways or action servers could not take over: Services switch all at once."""
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
        """Wait until all workers of the active track read the inbox, and no others; raises Refused after SETTLED_S."""
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
        code, said = self._site.ask(track, "status")
        if code:
            raise Refused(f"no worker of {track} could be asked: {said.strip()[-300:]}")
        return json.loads(said.strip().splitlines()[-1])
