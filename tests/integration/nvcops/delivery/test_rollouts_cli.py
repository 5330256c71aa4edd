"""The commands about rollouts, with real records and files, and no platform that answers."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from platform_of_slots import MANIFEST, key_pair

from nvcops import wiring
from nvcops.cli.app import nvcops
from nvcops.core.checks import Verdict
from nvcops.core.errors import EvidenceError, NotFoundError, NvcopsError
from nvcops.core.manifest.delivery import Analysis
from nvcops.core.rollouts import Phase, Rollout
from nvcops.delivery.analysis import Line, Trial, Vital, digest_of, head_line, judged, plan_of
from nvcops.delivery.looks import Look, Reading
from nvcops.delivery.standing import under_way

NOW = dt.datetime(2026, 11, 22, 16, tzinfo=dt.UTC)
RUN = "deploy@2026-11-22T16:00:00Z-abc"


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    key = key_pair(tmp_path / "dana")
    path = tmp_path / "platform.toml"
    path.write_text(MANIFEST.replace("DANA", key), encoding="utf-8")
    return path


def said(platform: Path, *words: str) -> Result:
    return CliRunner().invoke(nvcops, ["release", *words, "--target", str(platform)], standalone_mode=False)


def rolled_out(platform: Path, phase: Phase) -> None:
    rollout = Rollout(
        id=RUN, service="bank", new="b" * 64, version="2.0", old="a" * 64, old_version="1.0", phase=phase, began=NOW
    )
    with wiring.open_records(wiring.load(platform)) as records, records.changing() as desk:
        desk.put(rollout)


def looks(count: int = 20) -> list[bytes]:
    plan = plan_of(Analysis(), ["bank-3", "bank-4"], ["bank-1", "bank-2"], 0.1)
    trial = Trial(rollout=RUN, step=2, new="b" * 64, old="a" * 64, began=NOW, plan=plan, memory=3.0, started={})
    lines = [head_line(trial)]
    for n in range(1, count):
        readings = tuple(
            Reading(instance=name, time=float(n), requests=100.0 * n, bad=float(n // 2))
            for name in (*plan.canary, *plan.control)
        )
        vitals = (Vital(slot="bank-3", healthy=False), Vital(slot="bank-4", healthy=True))
        lines.append(msgspec.json.encode(Line(look=Look(time=float(n), readings=readings), vitals=vitals)))
    return lines


def test_history_is_empty_before_anything_was_rolled_out(platform: Path) -> None:
    assert "nothing was rolled out yet" in said(platform, "history").output
    rolled_out(platform, Phase.HEALTHY)
    shown = json.loads(said(platform, "history", "--json").output)
    assert [one["version"] for one in shown] == ["2.0"]
    assert "bank 2.0 for 1.0" in said(platform, "history").output


def test_what_is_under_way_can_be_wished_an_end_by_who_signs_for_it(platform: Path) -> None:
    rolled_out(platform, Phase.PROGRESSING)
    key = str(platform.with_name("dana"))
    result = said(platform, "abort", "--as", "dana", "--key", key)
    assert "abort, wished by dana" in result.output
    with wiring.open_records(wiring.load(platform)) as records, records.reading() as reading:
        assert [one.wish for one in under_way(reading)] == ["abort"]
    with wiring.open_evidence(wiring.load(platform)) as log:
        kinds = [entry.kind for _, entry in log.entries(0, log.size())]
    assert "rollout.progressing" in kinds


def test_without_one_there_is_nothing_to_end_or_to_try_again(platform: Path) -> None:
    key = str(platform.with_name("dana"))
    for words in (("abort", "--as", "dana", "--key", key), ("promote", "--as", "dana", "--key", key), ("retry",)):
        error = said(platform, *words).exception
        assert isinstance(error, NotFoundError), error
        assert error.hint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("deploy", "9.9"), "there is no release '9.9'"),
        (("deploy", "../../etc"), "there is no release '../../etc'"),
        (("rollback", "9.9"), "there is no release '9.9'"),
        (("deploy", "9.9", "--strategy", "nope"), "there is no strategy 'nope'"),
        (("deploy", "9.9", "--change", "soon"), "'soon' is no change"),
    ],
)
def test_what_is_not_there_is_said_at_once_and_begins_no_run(
    platform: Path, words: tuple[str, ...], sentence: str
) -> None:
    key = str(platform.with_name("dana"))
    error = said(platform, *words, "--as", "dana", "--key", key).exception
    assert isinstance(error, NvcopsError), error
    assert sentence in error.sentence
    assert error.hint
    with wiring.open_runs(wiring.load(platform), notify=pytest.fail) as runs:
        assert not runs.list()


def test_the_status_of_a_platform_that_does_not_answer_is_unknown(platform: Path) -> None:
    result = said(platform, "status", "--json")
    assert result.return_value is Verdict.UNKNOWN, result.output
    shown = json.loads(result.stdout)
    assert not any(one["ready"] for one in shown["slots"])


def test_an_analysis_is_judged_again_from_what_was_kept(platform: Path, tmp_path: Path) -> None:
    lines = looks()
    folder = wiring.load(platform).platform.state / "analyses" / RUN
    folder.mkdir(parents=True)
    (folder / "2.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    result = said(platform, "analysis", RUN, "--export", str(tmp_path / "looks"), "--json")
    assert result.return_value is Verdict.CRITICAL
    assert json.loads(result.output)["reason"] == judged(lines).reason
    assert "bank-3 has failed the balancer's checks" in judged(lines).reason
    words = ["release", "verify-analysis", str(tmp_path / "looks"), "--sha256", digest_of(lines)]
    alone = CliRunner().invoke(nvcops, words, standalone_mode=False)
    assert alone.return_value is Verdict.CRITICAL
    assert digest_of(lines) in alone.output
    (tmp_path / "looks").write_bytes(b"".join(line + b"\n" for line in lines[:-1]))
    changed = CliRunner().invoke(nvcops, words, standalone_mode=False)
    assert isinstance(changed.exception, EvidenceError)
    assert isinstance(said(platform, "analysis", "nothing").exception, NvcopsError)
