"""Computes each command's change to a release's values: the block `release` of the chart, kept in its own file.

Pure functions from values to values. For a command that is not possible now they raise `Refused` with a sentence.
"""

import copy
from typing import Any

Values = dict[str, Any]
NOTHING: Values = {
    "active": "blue",
    "candidate": False,
    "former": "",
    "canary": {"tenants": [], "percent": 0},
    "blue": {},
    "green": {},
}


class Refused(Exception):
    """The command is not possible now. The text says why, and what to do instead."""


def other(track: str) -> str:
    """Return the other one of the two tracks, blue and green."""
    return {"blue": "green", "green": "blue"}[track]


def has_canary(values: Values) -> bool:
    """Return whether the candidate answers any customers."""
    return bool(values["canary"]["tenants"] or values["canary"]["percent"])


def start(values: Values, differences: Values) -> Values:
    """Run a candidate: the active track's image and model, with the differences applied.

    Args:
        values: values of the release.
        differences: `image.services`, `image.worker` and `model`, each complete or left out.
    """
    if values["former"]:
        raise Refused("the last release's track still runs: `finish` it first, or go `back`")
    if has_canary(values):
        raise Refused("a canary is under way: `back` ends it")
    if not differences:
        raise Refused("say what is new: an image or a model")
    changed = copy.deepcopy(values)
    track = copy.deepcopy(values[values["active"]])
    track.setdefault("image", {}).update(differences.get("image", {}))
    if "model" in differences:
        track["model"] = differences["model"]
    changed[other(values["active"])] = {name: part for name, part in track.items() if part}
    return {**changed, "candidate": True}


def canary(values: Values, tenants: list[str], percent: float) -> Values:
    """Let the candidate answer the conversations of these tenants, and a percentage of the other tenants'."""
    _expect_candidate(values)
    if not tenants and not percent:
        raise Refused("name tenants or a percentage: `back` ends a canary")
    return {**copy.deepcopy(values), "canary": {"tenants": sorted(tenants), "percent": percent}}


def switch(values: Values) -> Values:
    """Make the candidate the active track; the former one keeps running for a `back`."""
    _expect_candidate(values)
    return {
        **copy.deepcopy(values),
        "active": other(values["active"]),
        "former": values["active"],
        "canary": copy.deepcopy(NOTHING["canary"]),
    }


def back(values: Values) -> Values:
    """Undo the last `canary` or `switch`; the candidate keeps running for inspection."""
    if has_canary(values):
        return {**copy.deepcopy(values), "canary": copy.deepcopy(NOTHING["canary"])}
    if not values["former"]:
        raise Refused("nothing to go back from: no canary, and no track that was active before")
    return {**copy.deepcopy(values), "active": values["former"], "former": ""}


def finish(values: Values) -> Values:
    """Remove the track that isn't active: the former one, or an abandoned candidate."""
    if not values["candidate"]:
        raise Refused("one track alone runs")
    if has_canary(values):
        raise Refused("a canary is under way: `back` ends it")
    return {**copy.deepcopy(values), "candidate": False, "former": ""}


def _expect_candidate(values: Values) -> None:
    if not values["candidate"]:
        raise Refused("there is no candidate: `start` one")
    if values["former"]:
        raise Refused("it was switched already: `finish` it, or go `back`")
