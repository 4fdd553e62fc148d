"""The changes of each release command to the values, and its refusals."""

import json

import pytest
import yaml

from ops.release import changes
from ops.release.changes import NOTHING, Refused
from ops.release.steps import Release

NEW = {"image": {"worker": {"tag": "2", "digest": ""}}}
MODEL = {"model": {"source": "fetch", "url": "https://models/2.tar.gz", "sha256": "0" * 64}}


def test_two_releases_alternate_the_tracks():
    """The first release makes green the active track, the second starts on blue."""
    started = changes.start(NOTHING, NEW)
    assert started["candidate"] and started["active"] == "blue" and started["green"] == NEW
    tried = changes.canary(started, ["b", "a"], 5)
    assert tried["canary"] == {"tenants": ["a", "b"], "percent": 5}
    switched = changes.switch(tried)
    assert (switched["active"], switched["former"]) == ("green", "blue") and not changes.has_canary(switched)
    finished = changes.finish(switched)
    assert not finished["candidate"] and not finished["former"]
    again = changes.start(finished, MODEL)
    assert again["blue"] == {**NEW, **MODEL}, "the next release changes only what it names"
    assert again["green"] == NEW and again["active"] == "green"


def test_back_undoes_canary_or_switch_and_keeps_the_candidate():
    started = changes.start(NOTHING, NEW)
    assert changes.back(changes.canary(started, [], 5)) == started
    assert changes.back(changes.switch(started)) == started
    assert changes.finish(started)["candidate"] is False


def test_release_commands_do_not_change_values_in_place():
    started = changes.start(NOTHING, NEW)
    before = json.dumps(started)
    for change in (
        lambda v: changes.canary(v, ["a"], 0),
        changes.switch,
        changes.finish,
        lambda v: changes.start(v, NEW),
    ):
        change(started)
    assert json.dumps(started) == before and changes.NOTHING["canary"] == {"tenants": [], "percent": 0}


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (lambda: changes.start(NOTHING, {}), "say what is new"),
        (lambda: changes.canary(NOTHING, ["a"], 0), "no candidate"),
        (lambda: changes.switch(NOTHING), "no candidate"),
        (lambda: changes.back(NOTHING), "nothing to go back from"),
        (lambda: changes.back(changes.start(NOTHING, NEW)), "nothing to go back from"),
        (lambda: changes.finish(NOTHING), "one track alone"),
        (lambda: changes.canary(changes.start(NOTHING, NEW), [], 0), "name tenants"),
        (lambda: changes.switch(changes.switch(changes.start(NOTHING, NEW))), "switched already"),
        (lambda: changes.start(changes.switch(changes.start(NOTHING, NEW)), NEW), "still runs"),
        (lambda: changes.start(changes.canary(changes.start(NOTHING, NEW), [], 5), NEW), "under way"),
        (lambda: changes.finish(changes.canary(changes.start(NOTHING, NEW), [], 5)), "under way"),
    ],
)
def test_impossible_release_command_is_refused(what, sentence):
    with pytest.raises(Refused, match=sentence):
        what()


class Site:
    """An installation that records its calls. Its workers follow the file at once. tests/chart has real ones."""

    def __init__(self, fit=True):
        self.fit, self.applied, self.asked = fit, [], []
        self.pods = {part + green: 2 for part in ("gateway", "worker", "actions") for green in ("", "-green")}

    def expect_free(self):
        pass

    def ready(self):
        return self.pods

    def apply(self, file, wait):
        self.applied.append((yaml.safe_load(file.read_text())["release"], wait))

    def ask(self, track, *words):
        self.asked.append((track, *words))
        if words[0] == "check":
            return (0, "yes") if self.fit else (1, "no: it answers nothing")
        values = self.applied[-1][0]
        inboxes = {
            track: "user.query" if track == values["active"] else "user.query.candidate" for track in ("blue", "green")
        }
        worker = {"model": "m", "turns": 1, "failed": 0}
        return 0, json.dumps({track: [{"inbox": inbox, **worker}] for track, inbox in inboxes.items()})


def test_unfit_candidate_gets_no_canary_and_no_switch(tmp_path):
    """The candidate's workers fail `python -m kefu release check`."""
    site = Site(fit=False)
    release = Release(site, tmp_path / "release.yaml", print)
    with pytest.raises(Refused, match="isn't fit: it runs, and no customer"):
        release.start(NEW)
    for command in (release.switch, lambda: release.canary([], 5)):
        with pytest.raises(Refused, match="isn't fit: nothing was changed"):
            command()
    assert [values["active"] for values, _ in site.applied] == ["blue"] and site.asked == [
        ("green", "check", "--fewer"),
        ("green", "check"),
        ("green", "check", "--fewer"),
    ]


@pytest.mark.parametrize("part", ["gateway-green", "actions-green"])
def test_switch_to_a_track_with_too_few_ready_pods_is_refused(tmp_path, part):
    site = Site()
    release = Release(site, tmp_path / "release.yaml", print)
    release.start(NEW)
    before = len(site.applied)
    site.pods[part] = 0
    for fewer in (False, True):
        with pytest.raises(Refused, match="no pod of"):
            release.switch(fewer)
    site.pods[part] = 1
    with pytest.raises(Refused, match=r"1 pods of .* 2 in the other track"):
        release.switch()
    assert len(site.applied) == before
    release.switch(fewer=True)
    assert site.applied[-1][0]["active"] == "green"


def test_back_needs_no_check_and_no_ready_pods(tmp_path):
    """`back` must also work when the new track is broken."""
    site = Site()
    release = Release(site, tmp_path / "release.yaml", print)
    release.start(NEW)
    release.switch()
    asked = len(site.asked)
    release.back()
    assert site.applied[-1][0]["active"] == "blue" and site.applied[-1][1] is False
    assert [words for _, *words in site.asked[asked:]] == [["status"]]
    assert "blue is active" in release.status()
    assert release.values == yaml.safe_load((tmp_path / "release.yaml").read_text())["release"]


def test_release_refuses_a_file_of_other_values(tmp_path):
    (tmp_path / "release.yaml").write_text("kafka: {}\n")
    with pytest.raises(Refused, match="no file of a release"):
        Release(Site(), tmp_path / "release.yaml").status()
