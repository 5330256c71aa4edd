"""Releases and slots in a lab: what is built, what runs in a slot, and releases that are good or bad on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nvcbank import __version__
from nvclab import running
from nvclab.delivery import ALONE, Delivery
from nvclab.layout import INSTANCES, SPARE
from nvclab.parts.haproxy import WEIGHT
from nvclab.variants import catalogue
from nvcops.core.manifest import Manifest, parse


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Lab]:
    with running.temporary("--delivery", users=5, folder=tmp_path_factory.mktemp("a lab") / "with a space") as lab:
        yield lab


@pytest.fixture
def delivery(lab: running.Lab) -> Delivery:
    return Delivery(lab.layout)


@pytest.fixture
def manifest(lab: running.Lab) -> Manifest:
    path = lab.folder / "platform.toml"
    return parse(path.read_text(encoding="utf-8"), path)


def asked(lab: running.Lab, slot: str, path: str) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{lab.layout.record().ports[slot]}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def version(lab: running.Lab, slot: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asked(lab, slot, "/version")[1])
    return found


def weights(lab: running.Lab) -> dict[str, tuple[int, str]]:
    """Slot -> its weight, and what the proxy thinks of it."""
    rows = proxy_row(lab, "show stat")
    return {row["svname"]: (int(row["weight"]), row["status"]) for row in rows if row["svname"].startswith("bank-")}


def proxy_row(lab: running.Lab, command: str) -> list[dict[str, str]]:
    text = asked_proxy(lab, command).removeprefix("# ").splitlines()
    names = text[0].split(",")
    return [dict(zip(names, line.split(","), strict=False)) for line in text[1:] if line]


def asked_proxy(lab: running.Lab, command: str) -> str:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(lab.layout.record().proxy_socket))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def wait_until(holds: Callable[[], object], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not become so in time"
        time.sleep(0.1)


def made(lab: running.Lab, *words: str) -> str:
    return str(json.loads(lab.run("release", *words, "--json").stdout)["digest"])


def placed(lab: running.Lab, delivery: Delivery, slot: str, digest: str) -> None:
    """Put a release into a slot, as a rollout does it."""
    lab.run("part", "stop", slot)
    delivery.occupy([slot], digest)
    lab.run("part", "start", slot)


def program(manifest: Manifest, name: str, **values: str) -> subprocess.CompletedProcess[str]:
    assert manifest.delivery is not None
    words = [word.format(**values) for word in getattr(manifest.delivery, name)]
    return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)


def self_tested(lab: running.Lab, manifest: Manifest, delivery: Delivery, slot: str) -> int:
    release = str(delivery.current(slot).resolve())
    url = f"http://127.0.0.1:{lab.layout.record().ports[slot]}"
    return program(manifest, "self_test", release=release, url=url).returncode


def test_the_main_slots_run_the_banks_present_release_and_the_others_are_spare(
    lab: running.Lab, delivery: Delivery
) -> None:
    said = [version(lab, name) for name in INSTANCES]
    (digest,) = {one["release"] for one in said}
    assert {one["version"] for one in said} == {__version__}
    assert [delivery.current(name).resolve().name for name in INSTANCES] == [digest, digest]
    environ = Path(f"/proc/{lab.part('bank-1')['pid']}/environ").read_bytes().split(b"\0")
    assert f"PYTHONPATH={delivery.root}/releases/{digest}/app".encode() in environ
    assert [lab.part(name)["state"] for name in SPARE] == ["stopped", "stopped"]
    wait_until(lambda: weights(lab)["bank-3"][1].startswith("DOWN"))
    assert {name: weight for name, (weight, _) in weights(lab).items()} == {
        **dict.fromkeys(INSTANCES, WEIGHT),
        **dict.fromkeys(SPARE, 0),
    }


def test_operations_read_how_the_bank_is_delivered(lab: running.Lab, manifest: Manifest, delivery: Delivery) -> None:
    assert manifest.delivery is not None
    assert manifest.delivery.store == delivery.store
    assert manifest.delivery.root == delivery.root
    assert [slot.name for slot in manifest.delivery.spare] == list(SPARE)
    listed = nvcops(lab, "release", "list", "--json")
    assert version(lab, "bank-1")["release"] in listed
    release = str(delivery.current("bank-1").resolve())
    for kind in ("expand", "contract"):
        migrated = program(manifest, "migrate", release=release, kind=kind)
        assert (migrated.returncode, migrated.stdout) == (0, "nothing to apply\n"), migrated.stderr


def nvcops(lab: running.Lab, *words: str) -> str:
    argv = [sys.executable, "-m", "nvcops", *words, "--target", str(lab.folder / "platform.toml")]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_slot_runs_what_it_is_pointed_at_and_says_so(
    lab: running.Lab, manifest: Manifest, delivery: Delivery
) -> None:
    digest = made(lab, "good", "--version", "0.2.0")
    placed(lab, delivery, "bank-3", digest)
    assert (version(lab, "bank-3")["version"], version(lab, "bank-3")["release"]) == ("0.2.0", digest)
    assert self_tested(lab, manifest, delivery, "bank-3") == 0
    wait_until(lambda: weights(lab)["bank-3"] == (0, "UP"))
    lab.run("part", "stop", "bank-3")
    assert not list((delivery.root / "releases" / digest).rglob("__pycache__")), "a release is never written to"


def test_weights_that_were_written_down_outlive_the_proxy(lab: running.Lab) -> None:
    asked_proxy(lab, "set weight bank/bank-2 7")
    (lab.folder / "data" / "haproxy.state").write_text(asked_proxy(lab, "show servers state"), encoding="utf-8")
    before = lab.part("proxy")["pid"]
    os.kill(before, 9)
    wait_until(lambda: lab.part("proxy")["state"] == "ready" and lab.part("proxy")["pid"] != before)
    try:
        wait_until(lambda: weights(lab)["bank-2"] == (7, "UP"))
        assert weights(lab)["bank-1"] == (WEIGHT, "UP")
    finally:
        asked_proxy(lab, f"set weight bank/bank-2 {WEIGHT}")
        (lab.folder / "data" / "haproxy.state").unlink()


def test_bad_releases_are_bad_as_they_promise(lab: running.Lab, manifest: Manifest, delivery: Delivery) -> None:
    """Each in a spare slot, before any customer sees it."""
    for name, options, bad in (
        ("failing", ("share=1", "after=0"), lambda: self_tested(lab, manifest, delivery, "bank-3") == 2),
        ("failing", ("share=1", "after=50"), lambda: self_tested(lab, manifest, delivery, "bank-3") == 0),
        ("missing-column", (), lambda: self_tested(lab, manifest, delivery, "bank-3") == 2),
        ("no-metrics", (), lambda: asked(lab, "bank-3", "/metrics")[0] == 500),
        ("renamed-metrics", (), lambda: b"\nlender_http" in asked(lab, "bank-3", "/metrics")[1]),
        ("crash", ("crash_s=1",), lambda: lab.part("bank-3")["restarts"] > 0),
        ("leak", ("leak_mib_per_s=200",), lambda: memory(lab) > 250 << 20),
    ):
        placed(lab, delivery, "bank-3", made(lab, name, *options, "--version", f"0.3.0+{name}"))
        wait_until(bad)
    lab.run("part", "stop", "bank-3")


def memory(lab: running.Lab) -> float:
    text = asked(lab, "bank-3", "/metrics")[1].decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident"))


@pytest.mark.drill
def test_a_release_that_is_never_ready_is_a_sentence(lab: running.Lab, delivery: Delivery) -> None:
    delivery.occupy(["bank-3"], made(lab, "never-ready"))
    lab.run("part", "stop", "bank-3")
    refused = lab.run("part", "start", "bank-3", check=False)
    assert (refused.returncode, "was not ready within" in refused.stderr) == (3, True)
    lab.run("part", "stop", "bank-3")


def test_a_slot_whose_release_is_gone_is_a_sentence(lab: running.Lab, delivery: Delivery) -> None:
    delivery.current("bank-4").parent.mkdir(parents=True, exist_ok=True)
    delivery.current("bank-4").symlink_to("../../releases/nowhere")
    refused = lab.run("part", "start", "bank-4", check=False)
    assert (refused.returncode, "There is no release" in refused.stderr) == (3, True)
    delivery.current("bank-4").unlink()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["goood"], "did you mean good"),
        (["errors", "times=many"], "times is a number"),
        (["errors", "colour=red"], "has no option"),
        (["good", "--version", "no version"], "is no version"),
        (["good", "--base", "abc"], "has no artifact"),
    ],
)
def test_a_variant_that_cannot_be_made_is_a_sentence(lab: running.Lab, words: list[str], said: str) -> None:
    refused = lab.run("release", *words, check=False)
    assert (refused.returncode, said in refused.stderr) == (3, True), refused.stderr
    assert not list((lab.folder / "delivery").glob("source-*"))


def test_the_list_of_variants_needs_no_lab(tmp_path: Path) -> None:
    listed = running.Lab(tmp_path / "none").run("release", "--list").stdout
    assert all(name in listed for name in catalogue.VARIANTS)
    refused = running.Lab(tmp_path / "none").run("release", "good", check=False)
    assert (refused.returncode, "There are no slots" in refused.stderr) == (3, True)


def test_migrations_of_variants_follow_each_other(lab: running.Lab, manifest: Manifest, delivery: Delivery) -> None:
    """Last: the schema of this lab is another afterwards. What contracts is applied only when it is asked for."""
    first = made(lab, "expand", "--version", "0.4.0")
    second = made(lab, "contract", "--version", "0.5.0", "--base", first)
    broken = made(lab, "failing-migration", "--version", "0.6.0", "--base", first)
    releases = {digest: str(delivery.unpack(digest)) for digest in (first, second, broken)}
    assert "0008_expand_mark.sql" in program(manifest, "migrate", release=releases[first], kind="expand").stdout
    assert program(manifest, "migrate", release=releases[second], kind="expand").stdout == "nothing to apply\n"
    failed = program(manifest, "migrate", release=releases[broken], kind="expand")
    assert (failed.returncode, "rolled back" in failed.stderr) == (3, True)
    assert "0009_contract_mark.sql" in program(manifest, "migrate", release=releases[second], kind="contract").stdout
    assert version(lab, "bank-1")["version"] == __version__
    assert self_tested(lab, manifest, delivery, "bank-1") == 0


def test_what_is_in_a_slot_outlives_the_lab(tmp_path: Path) -> None:
    with running.temporary("--delivery", users=0, folder=tmp_path / "lab") as lab:
        delivery = Delivery(lab.layout)
        digest = made(lab, "good", "--version", "0.9.0")
        placed(lab, delivery, "bank-1", digest)
        lab.run("down")
        lab.run("up", "--detach", "--users", "0")
        assert version(lab, "bank-1")["release"] == digest
        assert version(lab, "bank-2")["version"] == __version__
        assert delivery.program("bank-1").words[1:3] == ALONE
        lab.run("down")
        lab.run("up", "--detach", "--users", "0", "--no-delivery")
        assert version(lab, "bank-1")["release"] == ""
