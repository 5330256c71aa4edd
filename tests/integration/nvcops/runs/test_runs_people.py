"""Who may say what: three people (operator, approver, auditor) and a stranger at every step that asks for a person."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from platform_file import evidence, make_key, open_runs, read_manifest, signer

from nvcops.adapters.evidence.log import open_log
from nvcops.adapters.identity_ssh import Signer
from nvcops.adapters.runs.door import Runs
from nvcops.adapters.runs.history import RunJournal
from nvcops.core import procedures, schedule
from nvcops.core.checks import Verdict
from nvcops.core.errors import NotAllowed, NotFoundError, RunError, UsageError
from nvcops.core.evidence import verify_signed_entry
from nvcops.core.manifest import Manifest
from nvcops.core.runs import RunState

Drive = Callable[..., dict[str, Any]]


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder)


@pytest.fixture
def speak(manifest: Manifest, folder: Path) -> Callable[[str], Signer]:
    return lambda name: signer(manifest, folder, name)


def refusals(folder: Path) -> list[str]:
    return [entry.body["reason"] for entry in evidence(folder) if entry.kind == "refusal"]


def test_an_attestation_continues_the_run_and_is_signed_evidence(
    runs: Runs, folder: Path, manifest: Manifest, speak: Callable[[str], Signer]
) -> None:
    waiting = runs.start(procedures.find("tanks-morning"))
    assert waiting.state is RunState.WAITING

    record = runs.attest(waiting.id, "reviewed", speak("dana"), note="all tanks looked at")

    assert record.state is RunState.CONCLUDED
    assert record.findings[-1].observed == "reviewed by dana: all tanks looked at"
    assert (folder / "acts").read_text().split() == ["open", "close"]
    (entry,) = [entry for entry in evidence(folder) if entry.kind == "attestation"]
    verify_signed_entry(entry, {person.name: person.ssh_keys for person in manifest.people})
    assert entry.body["statement"]["content_hash"] == record.content_hash


def test_a_run_waits_across_processes(drive: Drive) -> None:
    waiting = drive("run", "tanks-morning")
    assert waiting["state"] == "waiting"
    assert drive("attest", waiting["id"], "reviewed", "dana")["state"] == "concluded"


def test_an_auditor_cannot_attest_and_the_attempt_is_evidence(
    runs: Runs, folder: Path, speak: Callable[[str], Signer]
) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    with pytest.raises(NotAllowed, match="their roles are auditor"):
        runs.attest(run, "reviewed", speak("igor"), note="x")
    assert runs.show(run).state is RunState.WAITING
    assert any("'igor' may not sign" in reason for reason in refusals(folder))


def test_a_stranger_is_nobody(runs: Runs, folder: Path, manifest: Manifest) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    make_key(folder / "stranger")
    dana = manifest.person("dana")
    assert dana
    with pytest.raises(NotAllowed, match="the roster does not know it"):
        runs.attest(run, "reviewed", Signer(dana, folder / "stranger"), note="x")
    stranger = msgspec.structs.replace(dana, name="eve")
    with pytest.raises(NotAllowed, match="is nobody in the roster"):
        runs.attest(run, "reviewed", Signer(stranger, folder / "stranger"), note="x")
    assert len(refusals(folder)) == 2


def test_a_key_speaks_for_its_owner_only(runs: Runs, folder: Path, manifest: Manifest) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    olga = manifest.person("olga")
    assert olga
    with pytest.raises(NotAllowed, match="it is 'dana''s"):
        runs.attest(run, "reviewed", Signer(olga, folder / "dana"), note="x")


def test_an_attestation_needs_a_note_a_waiting_step_and_a_run(runs: Runs, speak: Callable[[str], Signer]) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    with pytest.raises(UsageError, match="needs a note"):
        runs.attest(run, "reviewed", speak("dana"), note=" ")
    with pytest.raises(NotFoundError, match="has no step 'review'") as missing:
        runs.attest(run, "review", speak("dana"), note="x")
    assert missing.value.hint == "it waits for: reviewed"
    with pytest.raises(RunError, match="waits for no approve"):
        runs.approve(run, "reviewed", speak("omar"))
    with pytest.raises(NotFoundError):
        runs.attest("tanks-nothing", "reviewed", speak("dana"), note="x")


def test_an_approval_takes_a_second_person(runs: Runs, folder: Path, speak: Callable[[str], Signer]) -> None:
    waiting = runs.start(procedures.find("tanks-empty"), signer=speak("dana"))
    assert (waiting.state, waiting.requested_by) == (RunState.WAITING, "dana")
    with pytest.raises(NotAllowed, match="may not sign"):
        runs.approve(waiting.id, "agreed", speak("olga"))
    assert runs.approve(waiting.id, "agreed", speak("omar")).state is RunState.CONCLUDED
    assert (folder / "acts").read_text().split() == ["empty"]
    kinds = [entry.kind for entry in evidence(folder)]
    assert kinds.count("request") == kinds.count("approval") == kinds.count("refusal") == 1


def test_the_requester_cannot_approve_and_the_attempt_is_evidence(
    runs: Runs, folder: Path, speak: Callable[[str], Signer]
) -> None:
    waiting = runs.start(procedures.find("tanks-empty"), signer=speak("omar"))
    with pytest.raises(NotAllowed, match="requested this run and cannot approve it"):
        runs.approve(waiting.id, "agreed", speak("omar"))
    assert runs.show(waiting.id).state is RunState.WAITING
    assert refusals(folder) == ["'omar' requested this run and cannot approve it"]
    assert not (folder / "acts").exists()


def test_two_names_on_one_key_are_one_person(folder: Path, manifest: Manifest, speak: Callable[[str], Signer]) -> None:
    with open_runs(manifest, folder) as runs:
        run = runs.start(procedures.find("tanks-empty"), signer=speak("omar")).id
    twins = msgspec.structs.replace(manifest, people=(*manifest.people, _person(manifest, "omar", "twin")))
    with open_runs(twins, folder) as runs, pytest.raises(NotAllowed, match="the same SSH key for 'omar' and 'twin'"):
        runs.approve(run, "agreed", speak("omar"))


def _person(manifest: Manifest, name: str, other: str) -> Any:
    person = manifest.person(name)
    assert person
    return msgspec.structs.replace(person, name=other)


def test_an_option_may_make_the_approval_needless(runs: Runs) -> None:
    record = runs.start(procedures.find("tanks-empty"), options={"into": "the other tank"})
    assert (record.state, record.verdict) == (RunState.CONCLUDED, Verdict.OK)


def test_what_needs_an_approval_needs_a_requester_who_signs(runs: Runs, folder: Path) -> None:
    with pytest.raises(NotAllowed, match="its requester must sign"):
        runs.start(procedures.find("tanks-empty"))
    assert refusals(folder) == ["tanks-empty asks for an approval, so its requester must sign"]
    assert not runs.list()


def test_only_one_answer_counts(runs: Runs, folder: Path, speak: Callable[[str], Signer]) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    runs.attest(run, "reviewed", speak("dana"), note="first")
    with pytest.raises(RunError, match="has ended: concluded"):
        runs.attest(run, "reviewed", speak("olga"), note="second")
    assert [entry.actor for entry in evidence(folder) if entry.kind == "attestation"] == ["dana"]


@pytest.mark.parametrize(("done", "acts"), [(True, ["fill-0", "fill-1"]), (False, ["fill-0", "fill-0", "fill-1"])])
def test_a_person_says_what_became_of_an_act(
    drive: Drive, folder: Path, speak: Callable[[str], Signer], manifest: Manifest, done: bool, acts: list[str]
) -> None:
    (folder / "die").write_text("fill-0")
    assert drive("run", "tanks-fill", '{"acts": 2}') == {}
    with open_runs(manifest, folder) as runs:
        (left,) = runs.abandoned()
        assert left.gone
        waiting = runs.resume(left.run.id)
        assert waiting.state is RunState.WAITING
        assert "its worker was gone" in waiting.steps[-1].error
        record = runs.resolve(waiting.id, "act", speak("dana"), done=done, note="looked into the tank")
    assert record.state is RunState.CONCLUDED
    assert (folder / "acts").read_text().split() == acts
    (resolution,) = [entry for entry in evidence(folder) if entry.kind == "resolution"]
    assert resolution.body["statement"]["note"].startswith("done" if done else "redo")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="a fresh machine may lack openssh-client")
def test_ssh_keygen_accepts_what_we_sign(folder: Path, manifest: Manifest, runs: Runs) -> None:
    run = runs.start(procedures.find("tanks-morning")).id
    runs.attest(run, "reviewed", signer(manifest, folder, "dana"), note="ünïcode, too")
    with open_log(manifest.platform.state, origin=manifest.evidence.origin) as log:
        (entry,) = [entry for _, entry in log.entries() if entry.kind == "attestation"]
    from nvcops.core.evidence import statement_bytes

    dana = manifest.person("dana")
    assert dana
    (folder / "signers").write_text(f'dana namespaces="nvcops" {dana.ssh_keys[0]}\n')
    (folder / "signature").write_text(entry.body["signature"])
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "dana", "-n", "nvcops", "-s", "signature"]
    done = subprocess.run(
        command, cwd=folder, input=statement_bytes(entry.body["statement"]), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def forge(folder: Path, run: str, step: str, signed: str) -> None:
    """Whoever can write to the records enters an answer that nobody gave."""
    with sqlite3.connect(folder / "state" / "ops.sqlite") as records:
        row = (run, step, "approval", "omar", "fine", 1.0, signed)
        records.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        records.execute("UPDATE runs SET state = 'enqueued' WHERE id = ?", (run,))
    records.close()


def given(folder: Path, run: str) -> str:
    """The signed answer that the records have of a run."""
    with sqlite3.connect(folder / "state" / "ops.sqlite") as records:
        found = records.execute("SELECT signed_json FROM decisions WHERE run = ?", (run,)).fetchone()[0]
    records.close()
    return str(found)


@pytest.mark.parametrize("forged", ["nobody's", "another run's", "changed"])
def test_an_answer_that_somebody_wrote_into_the_records_does_not_count(
    runs: Runs, folder: Path, speak: Callable[[str], Signer], forged: str
) -> None:
    earlier = runs.start(procedures.find("tanks-empty"), signer=speak("dana"))
    runs.approve(earlier.id, "agreed", speak("omar"), note="yes")
    signed = "" if forged == "nobody's" else given(folder, earlier.id)
    run = runs.start(procedures.find("tanks-empty"), signer=speak("dana")).id
    forge(folder, run, "agreed", signed if forged == "another run's" else signed.replace(earlier.id, run))

    record = runs.resume(run)

    assert record.state is RunState.WAITING
    assert "an answer to agreed that does not count" in record.error
    assert (folder / "acts").read_text().split() == ["empty"], "only the earlier run acted"
    assert any("does not count" in reason for reason in refusals(folder))


def test_records_of_the_release_before_are_taken_over(folder: Path, runs: Runs) -> None:
    runs.close()
    with sqlite3.connect(folder / "state" / "ops.sqlite") as records:
        records.execute("ALTER TABLE decisions DROP COLUMN signed_json")
        records.execute("PRAGMA user_version = 1")
    records.close()
    with open_runs(read_manifest(folder), folder) as again:
        waiting = again.start(procedures.find("tanks-morning"))
        dana = signer(again.manifest, folder, "dana")
        assert again.attest(waiting.id, "reviewed", dana, note="seen").state is RunState.CONCLUDED


def test_the_time_of_an_approved_run_is_known_and_only_maintenance_is_left_out(
    runs: Runs, manifest: Manifest, speak: Callable[[str], Signer]
) -> None:
    journal, before = RunJournal(manifest), schedule.now() - dt.timedelta(minutes=1)
    waiting = runs.start(procedures.find("tanks-empty"), signer=speak("dana"))
    assert journal.approved(before, schedule.now()) == [], "nothing is excused before somebody approved it"
    record = runs.approve(waiting.id, "agreed", speak("omar"))
    (took,) = journal.approved(before, schedule.now())
    assert record.ended is not None
    assert (took.change, took.approved_by, took.start) == (record.id, "omar", took.approved)
    assert waiting.requested <= took.approved < took.end <= record.ended
    assert journal.approved(record.ended, schedule.now()) == [], "it is over"
    assert procedures.planned([took]) == [], "emptying tanks is no maintenance"
