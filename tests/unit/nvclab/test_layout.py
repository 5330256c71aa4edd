from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nvclab.errors import LabBusy, LabError, NotRunning, explained
from nvclab.layout import Layout, make_runtime, new_record, remove_dead_runtimes, remove_runtime


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "a lab")
    layout.prepare()
    return layout


def test_a_secret_is_made_once_and_only_its_owner_reads_it(layout: Layout) -> None:
    secret = layout.secret("service")
    assert layout.secret("service") == secret
    assert layout.secret("owner") != secret
    assert len(secret) == 48
    assert stat.S_IMODE(layout.secret_file("service").stat().st_mode) == 0o600


def test_a_folder_is_held_by_one(layout: Layout) -> None:
    assert not layout.is_held()
    with layout.locked():
        assert layout.is_held()
        with pytest.raises(LabBusy, match="already runs"), layout.locked():
            pass
    assert not layout.is_held()


def test_the_record_says_what_others_need(layout: Layout) -> None:
    with pytest.raises(NotRunning):
        layout.record()
    record = new_record({"http": 12345})
    layout.write_record(record)
    assert layout.record() == record
    assert record.pid == os.getpid()
    layout.at("lab.json").write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match="damaged"):
        layout.record()


def test_socket_paths_are_short_wherever_the_lab_lies(tmp_path: Path) -> None:
    record = new_record({"primary": 31999})
    deep = Layout(tmp_path / ("x" * 200))
    deep.prepare()
    sockets = [record.control, record.proxy_socket, record.database_sockets / ".s.PGSQL.31999"]
    assert all(len(os.fsencode(path)) <= 107 for path in sockets)


def test_the_runtime_folder_is_private_and_goes(layout: Layout) -> None:
    record = new_record({})
    runtime = make_runtime(record, layout)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o711
    assert runtime.stat().st_uid == os.geteuid()
    remove_runtime(record)
    assert not runtime.exists()
    remove_runtime(record)
    assert layout.folder.exists()


def test_a_foreign_folder_is_never_removed(tmp_path: Path) -> None:
    record = type(new_record({}))(id="x", pid=1, runtime=str(tmp_path), ports={})
    remove_runtime(record)
    assert tmp_path.exists()


@pytest.mark.parametrize(
    ("number", "sentence"), [(28, "The disk is full"), (30, "read-only"), (13, "No permission"), (24, "Too many open")]
)
def test_the_systems_errors_become_sentences(number: int, sentence: str) -> None:
    said = explained(OSError(number, "whatever", "/somewhere"))
    assert sentence in said.sentence
    assert "/somewhere" in said.sentence
    assert said.hint


def test_a_dead_labs_runtime_folder_goes_and_a_living_ones_stays(layout: Layout, tmp_path: Path) -> None:
    living, dead, gone = (new_record({}) for _ in range(3))
    make_runtime(living, layout)
    make_runtime(dead, Layout(tmp_path / "dead"))
    (tmp_path / "dead").mkdir()
    make_runtime(gone, Layout(tmp_path / "gone"))
    with layout.locked():
        remove_dead_runtimes()
        assert [Path(record.runtime).exists() for record in (living, dead, gone)] == [True, False, False]
    remove_dead_runtimes()
    assert not Path(living.runtime).exists()
