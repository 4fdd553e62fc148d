"""The results of all rounds so far: as a table, and in results/chaos.json, from which a stopped run continues."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

# Used to estimate a run's time. Measured with 50 kills per round on two cores, with the start and the evaluation of a
# round.
SECONDS_A_KILL = 4.5


class Report:
    """The results of one run.

    Args:
        path: the JSON file. If it has the results of the same run, which was stopped, they are continued; other results
            are overwritten.
        seed: seed of the run.
        kills: kills in all rounds together.
        size: kills per round.
        forms: forms of the system, used in turn.
    """

    def __init__(self, path: Path, seed: str, kills: int, size: int, forms: List[str]) -> None:
        self._path = path
        self._run = {"seed": seed, "kills": kills, "round": size, "forms": forms}
        self.rounds: List[Dict[str, Any]] = []
        if path.exists():
            earlier = json.loads(path.read_text())
            stopped = len(earlier.get("rounds", [])) * size < kills
            if earlier.get("run") == self._run and stopped:
                self.rounds = earlier["rounds"]

    @property
    def breaches(self) -> List[Dict[str, Any]]:
        """All broken promises, with the number of their round."""
        return [{"round": n, **breach} for n, each in enumerate(self.rounds, 1) for breach in each["breaches"]]

    def add(self, shown: Dict[str, Any]) -> None:
        """Add the result of a round, and write the JSON file."""
        self.rounds.append(shown)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        totals = {"kills": dict(self._sum("kills")), "counts": dict(self._sum("counts")), "breaches": self.breaches}
        self._path.write_text(json.dumps({"run": self._run, "totals": totals, "rounds": self.rounds}, indent=1))

    def table(self) -> str:
        """Return the totals of all rounds as text."""
        kills, counts = self._sum("kills"), self._sum("counts")
        lines = [f"{count:6}  {kind}" for kind, count in kills.most_common()]
        lines += [f"{sum(kills.values()):6}  kills in {len(self.rounds)} rounds", ""]
        lines += [f"{count:6}  {name}" for name, count in counts.items()]
        lines += [f"{len(self.breaches):6}  promises broken"]
        for breach in self.breaches:
            where = f"round {breach['round']}, {breach['conversation']} {breach['message_id']}"
            lines.append(f"        {breach['kind']}: {where}: {breach['seen']}")
        return "\n".join(lines)

    def _sum(self, what: str) -> "Counter[str]":
        total: Counter[str] = Counter()
        for each in self.rounds:
            total.update(each[what])
        return total
