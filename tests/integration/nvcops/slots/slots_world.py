"""Slots for real: releases of a small shop, folders, processes that are started and stopped, and its /version."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import release_world
from nvclab.parts.process import free_ports
from nvcops.adapters.slots.host import LocalHost
from nvcops.adapters.slots.slots import ReleaseSlots
from nvcops.adapters.target import connect
from nvcops.core.manifest import Manifest, parse
from nvcops.core.releases import Release

PART = Path(__file__).with_name("part.py")
SLOTS = ("main-1", "main-2", "spare-1")
_SHOP = """\
import http.server, json, os, sys, time

VERSION, MANNER = {version!r}, {manner!r}
if MANNER == "ends":
    sys.exit("cannot begin")
if MANNER == "silent":
    time.sleep(600)

class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        release = "f" * 64 if MANNER == "lies" else os.environ["SHOP_RELEASE"]
        body = json.dumps({{"version": VERSION, "release": release}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
"""
_MANIFEST = """\
[platform]
name = "shop"
title = "Shop"
state = "state"

[[services]]
name = "shop"
url = "{main_1}"
version = "/version"
deadline = "2 s"
instances = [{{ name = "main-1", url = "{main_1}" }}, {{ name = "main-2", url = "{main_2}" }}]

[control]
start = {control_start}
stop = {control_stop}
running = {control_running}
deadline = "{control_deadline}"

[delivery]
service = "shop"
store = "{store}"
{root}
spare = [{{ name = "spare-1", url = "{spare_1}" }}]
builders = [{{ name = "lab", key = "{key}" }}]
default = "at-once"
strategies = [{{ name = "at-once", steps = [{{ set_weight = 100 }}] }}]
self_test = {self_test}
ready_within = "{ready_within}"
drain_within = "10 s"
lay_within = "{lay_within}"
test_within = "{test_within}"
{hosts}

[evidence]
origin = "shop.example.com/operations"
"""


@dataclass
class World:
    """`folder` holds everything; `root` is where releases lie, `told` what the manifest says besides."""

    folder: Path
    releases: release_world.World
    ports: Mapping[str, int]
    root: Path
    told: dict[str, str] = field(default_factory=dict)

    def build(self, version: str, manner: str = "", **changes: object) -> Release:
        """A release of the shop, and its environment linked on this host, as a lab does that has it already."""
        program = self.releases.source / "shop" / "__main__.py"
        program.write_text(_SHOP.format(version=version, manner=manner))
        release = self.releases.build(version, **changes)
        environments = self.root / "environments"
        environments.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (environments / release.lock).symlink_to(sys.prefix)
        return release

    def manifest(self) -> Manifest:
        return parse(self.text(), self.folder / "platform.toml")

    def text(self) -> str:
        """The platform.toml."""
        urls = {name.replace("-", "_"): f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        control = {f"control_{verb}": self.control(verb) for verb in ("start", "stop", "running")}
        known = {
            "control_deadline": "20 s",
            "root": f"root = {json.dumps(str(self.root))}",
            "self_test": "[]",
            "ready_within": "20 s",
            "test_within": "20 s",
            "lay_within": "3 min",
            "hosts": "",
        }
        return _MANIFEST.format(
            **urls, store=self.releases.store.folder, key=self.releases.store.builders[0].key,
            **{**known, **control, **self.told},
        )  # fmt: skip

    def slots(self, **changes: str) -> ReleaseSlots:
        """The slots as the platform has them; `changes` are of the manifest."""
        self.told.update(changes)
        slots = connect(self.manifest()).slots
        assert isinstance(slots, ReleaseSlots)
        return slots

    def through(self, python: Path | str) -> ReleaseSlots:
        """The slots, with another program for this host's Python."""
        slots = self.slots()
        hosts = {name: replace(host, python=str(python)) for name, host in slots.hosts.items() if _local(host)}
        return replace(slots, hosts=hosts)

    def control(self, verb: str) -> str:
        return json.dumps([sys.executable, "-I", "-S", str(PART), str(self.folder), verb, "{name}"])

    def says(self, slot: str) -> str:
        """The release that a slot itself says it runs."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[slot]}/version", timeout=5) as answer:
            return str(json.load(answer)["release"])

    def pid(self, slot: str) -> int:
        return int((self.folder / f"{slot}.pid").read_text())

    def left(self) -> list[str]:
        """What is neither a release nor an environment nor a slot's pointer: nothing may be left behind."""
        folders = [self.root / "releases", self.root / "environments", *(self.root / "slots").glob("*")]
        return [str(path) for folder in folders if folder.is_dir() for path in folder.glob(".*")]

    def close(self) -> None:
        for pid_file in self.folder.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)


def _local(host: object) -> bool:
    return isinstance(host, LocalHost)


def world(folder: Path, root: Path | None = None) -> World:
    folder.mkdir(parents=True, exist_ok=True)
    made = World(
        folder=folder,
        releases=release_world.world(folder),
        ports=dict(zip(SLOTS, free_ports(len(SLOTS)), strict=True)),
        root=root or folder / "root",
    )
    shop = made.releases.source / "shop"
    for migration in (shop / "migrations").iterdir():
        migration.unlink()
    (folder / "parts.json").write_text(json.dumps({"root": str(made.root), "ports": made.ports}))
    return made
