"""The configuration: backed up as it is, put back as it was, all of it or nothing."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from files_world import World, acted, tree, world

from nvcops.adapters.backup import files_restore
from nvcops.core.checks import Verdict
from nvcops.core.errors import NotFoundError, StateError, TargetError, UsageError


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def ship(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return filled(world(tmp_path, encrypted=request.param))


def filled(ship: World) -> World:
    ship.write("etc/bank.toml", 'workers = 4\npassword = "hunter2"\n')
    ship.write("etc/conf.d/a.conf", "a\n", 0o600)
    ship.write("etc/conf.d/b.conf", "b\n")
    ship.write("etc/conf.d/deep/c.conf", "c\n")
    ship.write("etc/conf.d/tls.key", "the old key\n", 0o600)
    (ship.folder / "etc/conf.d/current").symlink_to("a.conf")
    return ship


def encrypted(ship: World) -> bool:
    return bool(ship.repository.sealing.key)


def changed(ship: World) -> None:
    ship.write("etc/bank.toml", 'workers = 8\npassword = "letmein"\n')
    (ship.folder / "etc/conf.d/a.conf").unlink()
    ship.write("etc/conf.d/new.conf", "new\n")
    ship.write("etc/conf.d/tls.key", "the new key\n", 0o600)
    (ship.folder / "etc/conf.d/b.conf").chmod(0o600)
    (ship.folder / "etc/conf.d/current").unlink()
    (ship.folder / "etc/conf.d/current").symlink_to("b.conf")


def test_it_comes_back_as_it_was(ship: World) -> None:
    before = tree(ship.folder / "etc")
    assert acted("configuration-backup", ship).verdict is Verdict.OK
    changed(ship)
    wrong = tree(ship.folder / "etc")
    run = acted("restore-config", ship, date="2999-01-01")
    assert run.verdict is Verdict.OK, run.findings
    after = tree(ship.folder / "etc")
    if not encrypted(ship):  # the key was left out, so it stays as it is
        before["conf.d/tls.key"] = wrong["conf.d/tls.key"]
    assert {**after, "conf.d/current": None} == {**before, "conf.d/current": None}
    assert (ship.folder / "etc/conf.d/current").readlink() == Path("a.conf")
    assert len(run.approved) == 1
    assert "(+2 -2)" in run.approved[0]


def test_the_difference_is_shown_and_no_secret(ship: World) -> None:
    acted("configuration-backup", ship)
    changed(ship)
    wrong = tree(ship.folder / "etc")
    run = acted("restore-config", ship, dry_run=True, date="2999-01-01")
    assert tree(ship.folder / "etc") == wrong, "a rehearsal changes nothing"
    assert run.verdict is Verdict.WARNING
    told = [
        (line.subject.removeprefix(str(ship.folder)), line.observed)
        for line in run.of("recovery.configuration_difference")
    ]
    assert ("/etc/bank.toml", "-workers = 8") in told
    assert ("/etc/bank.toml", "+workers = 4") in told
    assert ("/etc/bank.toml", "+password = (not shown)") in told
    assert ("/etc/conf.d/new.conf", "remove") in told
    assert ("/etc/conf.d/a.conf", "create") in told
    assert ("/etc/conf.d/b.conf", "permissions") in told
    assert (("/etc/conf.d/tls.key", "change, a secret") in told) == encrypted(ship)
    everything = f"{run.findings} {run.approved}"
    assert not any(secret in everything for secret in ("hunter2", "letmein", "the old key", "the new key"))


def test_what_is_without_secrets_says_so(ship: World) -> None:
    run = acted("configuration-backup", ship)
    (line,) = run.of("recovery.secrets")
    assert line.observed.startswith("kept, encrypted" if encrypted(ship) else "left out, as nothing is encrypted: /")
    stored = b"".join(path.read_bytes() for path in (ship.folder / "repository/backups").rglob("*") if path.is_file())
    assert b"the old key" not in stored


def test_a_file_that_cannot_be_read_is_named(ship: World) -> None:
    os.mkfifo(ship.folder / "etc/conf.d/pipe")
    (ship.folder / "etc/bank.toml").unlink()
    run = acted("configuration-backup", ship)
    assert run.verdict is Verdict.WARNING
    named = {line.subject.removeprefix(str(ship.folder)) for line in run.of("recovery.unreadable")}
    assert named == {"/etc/bank.toml", "/etc/conf.d/pipe"}
    (entry,) = ship.repository.catalogue.entries()
    assert "bank.toml: No such file" in entry.note


def test_as_of_a_date(ship: World) -> None:
    moments = []
    for number in range(3):
        ship.write("etc/bank.toml", f"workers = {number}\n")
        acted("configuration-backup", ship, started=later(number))
        moments.append(ship.repository.catalogue.entries()[-1].began.isoformat())
    for number, moment in enumerate(moments):
        acted("restore-config", ship, date=moment)
        assert (ship.folder / "etc/bank.toml").read_text() == f"workers = {number}\n"


def later(seconds: int) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def test_unchanged_it_is_entered_again_and_not_stored_again(ship: World) -> None:
    acted("configuration-backup", ship)
    objects = ship.objects()
    run = acted("configuration-backup", ship, started=later(5))
    assert ship.objects() == objects
    one, two = ship.repository.catalogue.entries()
    assert (one.revision, one.objects) == (two.revision, two.objects)
    assert "unchanged" in run.of("recovery.configuration_backup")[0].observed


def test_into_a_folder(ship: World) -> None:
    acted("configuration-backup", ship)
    before = tree(ship.folder / "etc")
    run = acted("restore-config", ship, date="2999-01-01", into=str(ship.folder / "there"))
    assert (run.verdict, run.approved) == (Verdict.OK, [])
    there = tree(ship.folder / "there" / str(ship.folder / "etc").lstrip("/"))
    expected = {name: seen for name, seen in before.items() if encrypted(ship) or not name.endswith(".key")}
    assert {name: seen[:1] for name, seen in there.items()} == {name: seen[:1] for name, seen in expected.items()}
    assert tree(ship.folder / "etc") == before


def test_nothing_differs(ship: World) -> None:
    acted("configuration-backup", ship)
    run = acted("restore-config", ship, date="2999-01-01")
    assert (run.verdict, run.approved) == (Verdict.OK, [])


# --- bad input: a sentence, and nothing is changed ---


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, UsageError, "as of when"),
        ({"date": "yesterday"}, UsageError, "'yesterday' is no date"),
        ({"date": "2026-02-30"}, UsageError, "is no date"),
        ({"date": "1999-12-31"}, NotFoundError, "no configuration as of 1999-12-31"),
        ({"date": "2999-01-01", "into": "etc"}, StateError, "is no empty folder"),
        ({"date": "2999-01-01", "into": "no/such/folder"}, StateError, "cannot be written"),
    ],
)
def test_bad_input(ship: World, options: dict[str, str], error: type[Exception], says: str) -> None:
    acted("configuration-backup", ship)
    changed(ship)
    before = tree(ship.folder / "etc")
    if "into" in options:
        options = {**options, "into": str(ship.folder / options["into"])}
    with pytest.raises(error, match=says) as caught:
        acted("restore-config", ship, **options)
    assert caught.value.hint
    assert tree(ship.folder / "etc") == before
    assert not list(ship.folder.rglob(".*nvcops*"))


def test_a_date_before_the_first_says_the_range(ship: World) -> None:
    acted("configuration-backup", ship)
    with pytest.raises(NotFoundError) as caught:
        acted("restore-config", ship, date="1999-12-31")
    assert caught.value.hint.startswith("kept are 2")


def test_nothing_was_backed_up(ship: World) -> None:
    with pytest.raises(NotFoundError, match="no configuration was backed up yet"):
        acted("restore-config", ship, date="2999-01-01")


def test_another_key(ship: World) -> None:
    acted("configuration-backup", ship)
    changed(ship)
    before = tree(ship.folder / "etc")
    if encrypted(ship):
        ship.write("repository.secret", "A" * 43 + "=", 0o600)
        with pytest.raises(StateError, match="is encrypted with the key"):
            acted("restore-config", ship, date="2999-01-01")
    assert tree(ship.folder / "etc") == before


def test_the_repository_is_gone(ship: World) -> None:
    acted("configuration-backup", ship)
    (ship.folder / "repository").rename(ship.folder / "elsewhere")
    with pytest.raises((TargetError, NotFoundError)):
        acted("restore-config", ship, date="2999-01-01")


def test_changed_since_it_was_approved(ship: World) -> None:
    acted("configuration-backup", ship)
    changed(ship)
    (entry,) = ship.repository.catalogue.entries()
    with pytest.raises(TargetError, match="was changed since its difference was shown"):
        files_restore.put_back(ship.repository, entry.id, "another", "a run")
    assert not list(ship.folder.rglob(".*nvcops*"))


def test_a_failure_in_the_middle_puts_everything_back(ship: World, monkeypatch: pytest.MonkeyPatch) -> None:
    acted("configuration-backup", ship)
    changed(ship)
    before = tree(ship.folder / "etc")
    plain, applied = files_restore._apply, []

    def breaks(pair: object, beside: Path) -> None:
        applied.append(pair)
        if len(applied) == 4:
            raise OSError(28, "No space left on device", str(beside))
        plain(pair, beside)

    monkeypatch.setattr(files_restore, "_apply", breaks)
    with pytest.raises(StateError, match="No space left on device; everything is as it was"):
        acted("restore-config", ship, date="2999-01-01")
    assert tree(ship.folder / "etc") == before
    assert not list((ship.folder / "etc").rglob(".*nvcops*"))
