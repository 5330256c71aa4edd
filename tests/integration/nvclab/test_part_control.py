"""Parts stopped, started and made anew on command; data that somebody replaced; hosts that crash; what is described."""

from __future__ import annotations

import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from nvclab import leftovers, running
from nvclab.customers.acknowledgements import read
from nvclab.data_centre import DataCentre, Wishes
from nvclab.parts.postgres import Postgres
from nvcops.core.manifest import Manifest, parse


@pytest.fixture(scope="module")
def lab() -> Iterator[running.Lab]:
    with running.temporary(users=20, think_s=1.0) as lab:
        yield lab


@pytest.fixture
def centre(lab: running.Lab) -> DataCentre:
    return DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print)


def manifest(lab: running.Lab) -> Manifest:
    path = lab.folder / "platform.toml"
    return parse(path.read_text(encoding="utf-8"), path)


def program(lab: running.Lab, verb: str, name: str, kind: str = "") -> int:
    """Run a program of [control], as operations would; its exit code."""
    words: tuple[str, ...] = getattr(manifest(lab).control, verb)
    argv = [word.format(name=name, kind=kind) for word in words]
    return subprocess.run(argv, check=False, capture_output=True, timeout=120).returncode


def one(server: Postgres, question: str, database: str = "postgres") -> Any:
    with server.connect(database) as connection:
        row = connection.execute(question).fetchone()
    assert row is not None
    return row[0]


def wait_until_true(server: Postgres, question: str) -> None:
    end = time.monotonic() + 30
    while not one(server, question):
        assert time.monotonic() < end, question
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["bank-1", "db-2", "db-1"])
def test_what_is_stopped_stays_stopped_until_it_is_started(lab: running.Lab, name: str) -> None:
    assert program(lab, "running", name) == 0
    assert program(lab, "stop", name) == 0
    assert program(lab, "stop", name) == 0
    assert program(lab, "running", name) == 3
    assert program(lab, "start", name) == 0
    assert program(lab, "start", name) == 0
    assert program(lab, "running", name) == 0
    assert {part["state"] for part in lab.status()["parts"]} <= {"ready", "not ready"}


def test_a_name_that_nothing_has_is_a_sentence(lab: running.Lab) -> None:
    refused = lab.run("part", "start", "db-9", check=False)
    assert refused.returncode == 3
    assert "no part called 'db-9'" in refused.stderr
    assert lab.run("host", "partition", "db-1", check=False).returncode == 3


def test_the_standby_is_made_anew_from_a_primary_that_somebody_restored(lab: running.Lab, centre: DataCentre) -> None:
    """Somebody replaces the primary's data by those of a copy that was promoted: another timeline, no slot."""
    primary, standby = centre.primary, centre.standby
    assert program(lab, "stop", "db-1") == 0
    assert program(lab, "stop", "db-2") == 0
    shutil.rmtree(primary.data)
    subprocess.run(["cp", "-a", standby.data, primary.data], check=True)
    (primary.data / "standby.signal").rename(primary.data / "recovery.signal")
    with (primary.data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
        settings.write("restore_command = 'false'\nrecovery_target_timeline = 'current'\n")
    assert program(lab, "start", "db-1") == 0
    assert one(primary, "SELECT NOT pg_is_in_recovery()")
    assert one(primary, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'standby'") == 1
    assert program(lab, "rebuild", "db-2") == 0
    wait_until_true(primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
    assert one(standby, "SELECT pg_is_in_recovery()")
    assert standby.data.stat().st_uid == primary.data.stat().st_uid
    timelines = [one(server, "SELECT timeline_id FROM pg_control_checkpoint()") for server in (primary, standby)]
    assert timelines[0] > 1


def test_the_primary_is_not_made_anew_from_a_standby(lab: running.Lab) -> None:
    refused = lab.run("part", "rebuild", "db-1", check=False)
    assert refused.returncode == 3
    assert "no running primary" in refused.stderr
    assert program(lab, "running", "db-1") == 0


@pytest.mark.parametrize(("name", "kind"), [("bank-2", "freeze"), ("db-2", "crash")])
def test_a_host_that_is_broken_is_put_off_for_certain_and_mended(
    lab: running.Lab, centre: DataCentre, name: str, kind: str
) -> None:
    assert program(lab, "break_host", name, kind) == 0
    assert program(lab, "fence", name) == 0
    assert program(lab, "fence", name) == 0, "it is off already"
    assert program(lab, "running", name) == 3
    if name == "db-2":
        assert not list(leftovers.working_in(centre.standby.data))
    assert program(lab, "mend_host", name) == 0
    assert program(lab, "running", name) == 0


def test_the_role_of_backups_can_what_a_backup_needs_and_no_more(lab: running.Lab, centre: DataCentre) -> None:
    backups = manifest(lab).backups
    assert backups is not None
    assert backups.password_file is not None
    password = backups.password_file.read_text(encoding="ascii").strip()
    with psycopg.connect(centre.primary.url("bank", user=backups.user, password=password), autocommit=True) as reader:
        for statement in ("SELECT count(*) FROM bank.transfer", "SELECT pg_create_restore_point('t')"):
            assert reader.execute(statement).fetchone()
        reader.execute("SELECT pg_switch_wal()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM bank.transfer")
    with psycopg.connect(centre.standby.url("bank", user=backups.user, password=password), autocommit=True) as reader:
        reader.execute("SELECT pg_wal_replay_pause(), pg_wal_replay_resume()")
    info = centre.primary.conninfo(user=backups.user, password=password, replication="true")
    with psycopg.connect(info, autocommit=True) as sender:
        assert sender.execute("IDENTIFY_SYSTEM").fetchone()


def test_the_key_the_release_and_the_books_are_there(lab: running.Lab) -> None:
    found = manifest(lab)
    assert found.backups is not None
    assert found.backups.application is not None
    assert found.backups.key_file is not None
    assert found.backups.key_file.stat().st_mode & 0o777 == 0o600
    version = (found.backups.application / "VERSION").read_text(encoding="ascii").strip()
    with zipfile.ZipFile(found.backups.application / f"nvcbank-{version}.zip") as release:
        assert "nvcbank/server.py" in release.namelist()
    assert (found.backups.application / "requirements.txt").exists()
    assert [path for path in found.backups.configuration if not path.exists()] == []
    assert found.recovery.invariants is not None
    assert found.recovery.invariants.exists()


def test_every_payment_that_customers_saw_settled_is_found_by_its_key(lab: running.Lab, centre: DataCentre) -> None:
    told = manifest(lab).recovery.acknowledgements
    assert told is not None
    end = time.monotonic() + 90
    while (entries := list(read(told.journal))) and sum(entry.outcome == "settled" for entry in entries) < 20:
        assert time.monotonic() < end
        time.sleep(0.5)
    settled = {entry.key for entry in entries if entry.outcome == "settled"}
    declined = {entry.key for entry in entries if entry.outcome.startswith("declined")}
    with centre.primary.connect("bank") as connection:
        keys = [*settled, *declined, "1.never-sent", "no number", "99999999999999999999.x"]
        rows = connection.execute(told.query.encode(), {"keys": keys}).fetchall()
    assert {str(row[0]) for row in rows} == settled


def test_with_a_synchronous_backup_nothing_is_settled_before_it_is_received() -> None:
    with running.temporary("--synchronous-backup", users=5, think_s=0.5) as lab:
        primary = DataCentre(lab.layout, lab.layout.record(), Wishes(0), print, print).primary
        assert one(primary, "SELECT current_setting('synchronous_standby_names')") == "nvcops_wal"
        wait_until_true(primary, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        lab.run("part", "stop", "db-1")
        lab.run("part", "start", "db-1")  # what it lacks is made without waiting for anybody
        assert one(primary, "SELECT current_setting('synchronous_standby_names')") == "nvcops_wal"
        wait_until_true(primary, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        before = settled(lab)
        time.sleep(2)
        assert settled(lab) == before, "nobody receives the log, and still something was acknowledged"
        with primary.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            connection.execute("SELECT pg_reload_conf()")
        end = time.monotonic() + 60
        while settled(lab) == before:
            assert time.monotonic() < end
            time.sleep(0.2)


def settled(lab: running.Lab) -> int:
    """How many payments customers saw settled."""
    journal = lab.folder / "customers" / "acknowledgements.jsonl"
    return sum(entry.outcome == "settled" for entry in read(journal)) if journal.exists() else 0
