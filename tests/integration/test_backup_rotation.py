"""`python -m kefu backup rotate` on a real Kafka: old backups are removed only after the new one is finished."""

from datetime import datetime, timedelta, timezone

import pytest

from kefu.tools.backup import command
from kefu.tools.backup.rotation import NAME, backups
from kefu.tools.backup.topics import CONTENTS, SAVED, restore


@pytest.fixture
def folder(tmp_path, kafka_settings, monkeypatch):
    """A volume after some nights: three finished backups, an interrupted one, and a folder that is no backup."""
    monkeypatch.setenv("KAFKA_BROKERS", kafka_settings.brokers)
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", kafka_settings.topic_prefix)
    monkeypatch.setenv("KEFU_CONSUMER_GROUP", kafka_settings.group)
    for days in (3, 2, 1):
        (of_age(tmp_path, days) / CONTENTS).touch()
    of_age(tmp_path, 1.5)
    (tmp_path / "lost+found").mkdir()
    return tmp_path


def of_age(folder, days):
    backup = folder / (datetime.now(timezone.utc) - timedelta(days=days)).strftime(NAME)
    backup.mkdir()
    return backup


def test_new_backup_replaces_the_oldest_and_interrupted_ones(folder, kafka_settings, capsys):
    oldest, *stay = backups(folder, finished=True)
    (interrupted,) = backups(folder, finished=False)
    assert command.main(["rotate", str(folder), "--keep", "3"]) == 0
    output = capsys.readouterr().out
    *before, new = backups(folder, finished=True)
    assert before == stay and (folder / "lost+found").is_dir()
    assert f"{oldest.name} is removed" in output and f"{interrupted.name} is removed" in output
    assert restore(kafka_settings, new, lambda _: None) == dict.fromkeys(SAVED, 0)


def test_failed_backup_removes_no_finished_backup(folder, monkeypatch, capsys):
    before = backups(folder, finished=True)
    monkeypatch.setenv("KEFU_TOPIC_PREFIX", "nobody.")
    assert command.main(["rotate", str(folder), "--keep", "1"]) == 1
    assert "kefu backup rotate: " in capsys.readouterr().err
    assert backups(folder, finished=True) == before


def test_rotation_does_not_remove_a_running_backup(folder):
    running = of_age(folder, 0.1)
    assert command.main(["rotate", str(folder)]) == 0
    assert running.is_dir()
