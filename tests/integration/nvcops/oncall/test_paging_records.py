"""Pages in the real records: what a killed engine leaves, and two engines that decide at once."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from desk import MemoryDesk
from nvcops.adapters.records import open_records
from nvcops.core.oncall import Message, MessageState, Page
from nvcops.oncall import paging

ENGINE = Path(__file__).with_name("dying_engine.py")


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dying_engine", ENGINE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_at_any_statement_all_of_an_act_is_there_or_nothing_and_done_again_it_is_the_same(
    tmp_path: Path, engine: ModuleType
) -> None:
    run = subprocess.run(
        [sys.executable, str(ENGINE), str(tmp_path)], capture_output=True, text=True, timeout=240, check=True
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    twin, manifest = MemoryDesk(), engine.manifest_in(tmp_path)
    for name, act in engine.ACTS.items():
        of_act = [line for line in lines if line["act"] == name]
        assert [line["when"] for line in of_act[:2] + of_act[-2:]] == ["before", "killed", "done", "again"]
        before = engine.state_of(twin)
        act(twin, manifest)
        after = json.loads(json.dumps(engine.state_of(twin)))
        for line in of_act:
            state = {"pages": line["pages"], "messages": line["messages"]}
            assert state == (after if line["when"] in ("done", "again") else json.loads(json.dumps(before))), line
        sent = twin.find(Message, state=MessageState.WAITING, purpose="page")
        twin.put(*(msgspec.structs.replace(message, state=MessageState.SENT) for message in sent))
    killed = sum(line["when"] == "killed" for line in lines)
    print(f"killed at {killed} statements")


def test_two_engines_at_once_carry_out_each_step_once(tmp_path: Path, engine: ModuleType) -> None:
    manifest = engine.manifest_in(tmp_path)
    both = [open_records(manifest) for _ in range(2)]
    with both[0].changing() as desk:
        engine.ACTS["begin"](desk, manifest)
    turn = threading.Barrier(2, timeout=60)
    steps = 8
    faults: list[Exception] = []

    def drive(number: int) -> None:
        try:
            for n in range(1, steps + 1):
                turn.wait()
                with both[number].changing() as desk:
                    paging.advance(desk, manifest=manifest, at=engine.AT + n * 5 * engine.MINUTE)
        except Exception as error:  # noqa: BLE001 - told by the test
            faults.append(error)
            turn.abort()

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    with both[1].reading() as reading:
        messages, (page,) = reading.find(Message), reading.find(Page)
    for records in both:
        records.close()
    assert not faults
    # four rounds of two steps: dana on two kinds of channel each time, omar at each second step; then the end
    assert (page.round, page.step, page.next) == (3, 1, None)
    assert sorted(message.to for message in messages) == ["dana"] * 16 + ["omar"] * 4
