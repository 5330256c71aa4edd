"""A release through its stages as a CI takes it, over real records and a real journal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gates_world import Bank, advisories
from junitparser import JUnitXml

from nvcops import wiring
from nvcops.cli.app import nvcops
from nvcops.core.errors import NvcopsError
from nvcops.core.gates import GateControl
from nvcops.core.releases import Admission
from nvcops.delivery import pipeline
from scripts_of_ours import script

TEXT = """
[platform]
name = "test-bank"
title = "Test Bank"
state = "state"
[[services]]
name = "bank"
url = "http://127.0.0.1:1"
version = "/version"
instances = [{{ name = "bank-1", url = "http://127.0.0.1:1" }}]
[delivery]
service = "bank"
store = "{store}"
default = "one"
builders = [{{ name = "ci", key = "{key}" }}]
[[delivery.hosts]]
slots = ["bank-1"]
address = "nobody@127.0.0.1"
root = "/nowhere"
[[delivery.strategies]]
name = "one"
steps = [{{ replace = 1 }}, {{ pause = "1 s" }}]
[[delivery.stages]]
name = "dev"
gates = [
    {{ name = "sbom", kind = "sbom" }},
    {{ name = "look", program = ["{look}", "{{release}}"], control = "{fault}" }},
]
[[delivery.stages]]
name = "production"
gates = [{{ name = "vulnerabilities", kind = "vulnerabilities", options = {{ advisories = "{advisories}" }} }}]
[evidence]
origin = "test.example.com/operations"
"""
LOOK = """
import os, sys
if os.path.exists({switch!r}):
    sys.exit(int(open({switch!r}).read()))
sys.exit(os.path.exists(sys.argv[1] + "/fault"))
"""
Call = Callable[..., tuple[int, str]]


class World:
    """A platform with two stages; `switch` tells the program of the gate `look` what to end with."""

    def __init__(self, bank: Bank, folder: Path) -> None:
        self.bank, self.folder, self.switch = bank, folder, folder / "switch"
        (folder / "fault").mkdir()
        (folder / "fault" / "fault").touch()
        self.look = script(folder / "look", LOOK.format(switch=str(self.switch)))
        self.platform = folder / "platform.toml"
        filled = TEXT.format(
            store=bank.store.folder,
            key=bank.store.builders[0].key,
            look=self.look,
            fault=folder / "fault",
            advisories=advisories(folder / "advisories.json"),
        )
        self.platform.write_text(filled, encoding="utf-8")
        self.retrieved_now()

    def retrieved_now(self) -> None:
        """The advisories of today: these runs go by the real clock."""
        file = self.folder / "advisories.json"
        document = json.loads(file.read_text())
        document["retrieved"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        file.write_text(json.dumps(document))

    def __call__(self, *words: str) -> tuple[int, str]:
        """Call `nvcops pipeline`; its exit code, and what it said."""
        argv = ["pipeline", *words, "--target", str(self.platform)]
        try:
            done = CliRunner().invoke(nvcops, argv, standalone_mode=False, catch_exceptions=False)
        except NvcopsError as error:
            return error.exit_code, error.sentence
        return int(done.return_value or 0), done.output

    def why_not(self) -> str:
        """What the preflight of a deployment is told."""
        manifest = wiring.load(self.platform)
        assert manifest.delivery
        with wiring.open_records(manifest) as records, records.reading() as reading:
            return pipeline.admitted(reading, manifest.delivery.stages, self.bank.one.digest)

    def kept(self, kind: type[Any]) -> list[Any]:
        with wiring.open_records(wiring.load(self.platform)) as records, records.reading() as reading:
            return reading.find(kind)


@pytest.fixture
def world(bank: Bank, tmp_path: Path) -> World:
    return World(bank, tmp_path)


def test_a_release_goes_from_stage_to_stage(world: World) -> None:
    """Without controls nothing counts, without the stage before nothing is asked; then it is admitted."""
    assert world.why_not() == "it was not admitted to dev"
    code, said = world("run", "dev", "--version", "1.0")
    assert (code, "its positive control never ran" in said) == (3, True), said
    assert world("controls")[0] == 0
    code, said = world("run", "production", "--version", "1.0")
    assert (code, "it was not admitted to dev" in said) == (2, True), said
    junit, sarif = world.folder / "out" / "gates.xml", world.folder / "out" / "gates.sarif"
    code, said = world("run", "dev", "--version", "1.0", "--junit", str(junit), "--sarif", str(sarif))
    assert code == 0, said
    suites = {suite.name: [case.name for case in suite] for suite in JUnitXml.fromfile(str(junit))}
    assert suites == {"pipeline.dev": ["sbom", "look"], "pipeline.admission": ["admission"]}
    assert [run["automationDetails"]["id"] for run in json.loads(sarif.read_text())["runs"]] == ["dev/sbom", "dev/look"]
    assert world.why_not() == "it was not admitted to production"
    assert world("run", "production", "--version", world.bank.one.digest[:12])[0] == 0
    assert world.why_not() == ""
    code, said = world("status", "--json")
    rows = {row["version"]: row for row in json.loads(said)}
    assert sorted(rows["1.0"]["admitted"]) == ["dev", "production"]
    assert rows["1.1"]["why_not"] == "it was not admitted to dev"
    code, said = world("gates", "--json")
    assert (code, [row["control"]["verdict"] for row in json.loads(said)]) == (0, [0, 0, 0])


def test_a_refusal_is_written_down_and_takes_back_what_was_admitted(world: World) -> None:
    world("controls")
    assert world("run", "dev", "--version", "1.0")[0] == 0
    world.switch.write_text("3")
    assert world("run", "dev", "--version", "1.0")[0] == 3
    assert len(world.kept(Admission)) == 1, "what could not be told takes nothing back"
    world.switch.write_text("1")
    junit = world.folder / "gates.xml"
    code, said = world("run", "dev", "--version", "1.0", "--json", "--junit", str(junit))
    record = json.loads(said)
    assert (code, record["verdict"]) == (2, 2)
    assert world.kept(Admission) == []
    failed = [case.name for suite in JUnitXml.fromfile(str(junit)) for case in suite if case.result]
    assert failed == ["look", "admission"]
    code, said = world("report", record["id"])
    assert (code, "REFUSED  dev/look" in said) == (2, True), said


def test_a_gate_that_lets_its_fault_pass_admits_nothing_any_more(world: World) -> None:
    world("controls")
    for stage in ("dev", "production"):
        assert world("run", stage, "--version", "1.0")[0] == 0
    assert world.why_not() == ""
    world.switch.write_text("0")  # the program says yes to everything
    code, said = world("controls")
    assert (code, "it let its seeded fault pass" in said) == (2, True), said
    assert world.why_not() == "it was not admitted to dev", "what it admitted since its last good control is withdrawn"
    assert [one.stage for one in world.kept(Admission)] == ["production"]
    code, said = world("run", "dev", "--version", "1.0")
    assert (code, "look is broken" in said) == (2, True), said
    world.switch.write_text("3")  # it cannot run at all: that mends nothing
    assert world("controls", "--gate", "look")[0] != 0
    assert world("run", "dev", "--version", "1.0")[0] == 3
    world.switch.unlink()
    assert world("controls", "--gate", "look")[0] == 0
    assert world.why_not() == "it was not admitted to dev", (
        "a gate that was mended does not make up for what it let pass"
    )
    assert world("run", "dev", "--version", "1.0")[0] == 0
    assert world.why_not() == "it was admitted to production before it was admitted to dev"
    assert world("run", "production", "--version", "1.0")[0] == 0
    assert world.why_not() == ""


def test_a_control_that_could_not_run_leaves_the_last_refusal_standing(world: World) -> None:
    world("controls")
    world.switch.write_text("3")
    world("controls", "--stage", "dev", "--gate", "look")
    control = next(one for one in world.kept(GateControl) if one.id == "dev/look")
    assert (control.verdict, control.refused is not None, control.refused < control.time) == ("unknown", True, True)
    world.switch.unlink()
    assert world("run", "dev", "--version", "1.0")[0] == 0


def test_a_gate_that_was_changed_is_tested_again_first(world: World) -> None:
    world("controls")
    text = world.platform.read_text(encoding="utf-8")
    world.platform.write_text(text.replace('"{release}"]', '"{release}", "--quick"]'), encoding="utf-8")
    code, said = world("run", "dev", "--version", "1.0")
    assert (code, "it was changed since its positive control ran" in said) == (3, True), said


def test_no_exception_makes_a_ci_go_on(world: World) -> None:
    world("controls")
    world.switch.write_text("1")
    accepted = "".join(
        f'[[exceptions]]\ncheck = "{check}"\nreason = "soon"\nowner = "omar"\nuntil = 2999-01-01\n'
        for check in ("pipeline.gate", "pipeline.admitted", "pipeline.control")
    )
    who = '[[people]]\nname = "omar"\nfull_name = "Omar"\nroles = ["operator"]\nssh_keys = []\n'
    with world.platform.open("a", encoding="utf-8") as file:
        file.write(who + accepted)
    assert world("run", "dev", "--version", "1.0")[0] == 2
    assert world.kept(Admission) == []


def test_a_rehearsal_asks_nobody_and_admits_nothing(world: World) -> None:
    world("controls")
    code, said = world("run", "dev", "--version", "1.0", "--dry-run")
    assert (code, "would ask the gate sbom" in said or "it was not asked" in said) == (3, True), said
    assert world.kept(Admission) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "nowhere", "--version", "1.0"), "there is no stage 'nowhere'"),
        (("run", "dev", "--version", "9.9"), "9.9"),
        (("run", "dev", "--version", "0" * 64), "0000"),
        (("report", "nothing"), "there is no run"),
    ],
)
def test_what_is_not_there_is_said(words: tuple[str, ...], says: str, world: World) -> None:
    code, said = world(*words)
    assert (code, says in said) == (3, True), said


def test_a_run_that_was_killed_goes_on_where_it_was(world: World) -> None:
    """Gates that have answered are not asked again."""
    world("controls")
    asked, waiting = world.folder / "asked", world.folder / "waiting"
    body = f"""
import os, sys, time
open({str(asked)!r}, "a").write("look\\n")
while os.path.exists({str(waiting)!r}):
    time.sleep(0.05)
sys.exit(os.path.exists(sys.argv[1] + "/fault"))"""
    waiting.touch()
    script(world.look, body)
    words = ["pipeline", "run", "dev", "--version", "1.0", "--target", str(world.platform)]
    child = subprocess.Popen([sys.executable, "-m", "nvcops", *words])
    try:
        for _ in range(1200):
            if asked.exists() or child.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    assert asked.exists()
    waiting.unlink()
    manifest = wiring.load(world.platform)
    with wiring.open_runs(manifest, notify=lambda _: None) as runs:
        left = runs.list(procedure="release-admission")[0]
    resume = [sys.executable, "-m", "nvcops", "resume", left.id, "--target", str(world.platform)]
    done = subprocess.run(resume, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with wiring.open_runs(manifest, notify=lambda _: None) as runs:
        record = runs.show(left.id)
    said = [step.name for step in record.steps if step.name.startswith("ask-gate")]
    assert said == ["ask-gate", "ask-gate-2"]
    assert world("report", record.id)[0] == 0
    assert asked.read_text().count("look") == 2, "the one that was under way was asked again, the one before was not"
