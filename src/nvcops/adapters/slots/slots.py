"""The slots of a service, on this host and on others: releases are laid, put into slots, started and read back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from nvcops.adapters.backup.tools import last_words
from nvcops.adapters.releases.archive import Packed, reading
from nvcops.adapters.slots.asking import QUICK_S, Host, ask, held, run_there
from nvcops.adapters.slots.host import LocalHost, RemoteHost
from nvcops.core.cluster import Control
from nvcops.core.errors import DeadlineExceeded, ManifestError, Refused, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.manifest.delivery import DeliveryEntry, Program
from nvcops.core.releases import Release, Releases
from nvcops.core.rollouts import Occupied
from nvcops.core.target import Answer, Question, Services

_POLL_S = 0.1
_LOOK_AGAIN_S = 1.0
_KINDS = {False: "expand", True: "contract"}


class _Version(msgspec.Struct):
    """What /version says of the release that runs; empty: of none."""

    release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSlots:
    """See core.rollouts.Slots. `hosts` and `urls` are by slot, main slots first; `version` is the path of /version."""

    entry: DeliveryEntry
    releases: Releases
    services: Services
    hosts: Mapping[str, Host]
    urls: Mapping[str, str]
    version: str

    def lay(self, slot: str, digest: str) -> None:
        """Bring a release to the slot's host, file by file verified there, and make its environment."""
        host, release = self._host(slot), self.releases.verify(digest)
        if digest not in self.laid(slot):
            size = sum(len(file.data) for file in self._files(digest))
            frames = (piece for file in self._files(digest) for piece in _framed(file))
            ask(
                host,
                "lay",
                self.entry.lay_within,
                _ended(frames),
                root=host.root,
                digest=digest,
                size=size,
                wait_s=self.entry.lay_within / 2,
            )
        self._check(host, digest)
        ask(
            host,
            "environment",
            self.entry.lay_within + QUICK_S,
            root=host.root,
            digest=digest,
            lock=release.lock,
            environments=host.environments,
            python=host.python,
            deadline_s=float(self.entry.lay_within),
        )

    def laid(self, slot: str) -> Sequence[str]:
        """The digests of the releases that are whole on the slot's host."""
        host = self._host(slot)
        return [str(digest) for digest in ask(host, "laid", QUICK_S, root=host.root)]

    def look(self, slot: str) -> Occupied:
        """What is in it: where its pointer points, and whether the slot itself says that this runs.

        Raises Unreachable or DeadlineExceeded where its program runs and does not say what it is.
        """
        digest = self._pointed(slot)
        if not self._host(slot).running(slot):
            return Occupied(slot=slot, digest=digest)
        return Occupied(slot=slot, digest=digest, running=self._says(slot) == digest)

    def put(self, slot: str, digest: str) -> None:
        """Verify the release on the slot's host, stop what runs, point the slot at it in one step, start it, read back.

        Nothing when it runs already. What a killed call left, the next one goes on with: by what runs, not by what was
        to run.
        """
        host = self._host(slot)
        with held(host, f"slot-{slot}", self.entry.drain_within):
            if self._pointed(slot) == digest and self._runs(slot, digest):
                return
            self._check(host, digest)
            host.stop(slot)
            ask(host, "point", QUICK_S, root=host.root, slot=slot, digest=digest, wait_s=QUICK_S / 2)
            host.start(slot)
            self._await(slot, digest)

    def stop(self, slot: str) -> None:
        """Stop what runs there; it stays stopped."""
        host = self._host(slot)
        with held(host, f"slot-{slot}", self.entry.drain_within):
            host.stop(slot)
            if host.running(slot):
                raise Refused(f"{slot} runs still, though it was stopped", hint="look at the program that stops it")

    def migrate(self, digest: str, *, contract: bool) -> None:
        """Apply the release's pending migrations, on the first slot's host."""
        release = self.releases.verify(digest)
        if not release.migrations:
            return
        if not self.entry.migrate:
            raise Refused(
                f"{release.version} has migrations, and platform.toml does not say how they are applied",
                hint="[delivery] migrate names the program",
            )
        slot = next(iter(self.hosts))
        self._run(self.entry.migrate, slot, release, self.entry.migrate_within, kind=_KINDS[contract])

    def self_test(self, slot: str, digest: str) -> str:
        """Have the release do its real work once in a slot, past the balancer; what it said."""
        if not self.entry.self_test:
            raise Refused(
                "platform.toml does not say how a release tests itself", hint="[delivery] self_test names the program"
            )
        return self._run(self.entry.self_test, slot, self.releases.verify(digest), self.entry.test_within)

    def forget(self, slot: str, digest: str) -> int:
        """Remove a release from the slot's host, unless it is in a slot there; the bytes that it freed."""
        host = self._host(slot)
        freed = ask(
            host,
            "forget",
            self.entry.lay_within,
            root=host.root,
            digest=digest,
            environments=host.environments,
            wait_s=QUICK_S,
        )
        return int(freed)

    # --- what runs ---

    def _pointed(self, slot: str) -> str:
        host = self._host(slot)
        return str(ask(host, "pointers", QUICK_S, root=host.root, slots=[slot])[slot])

    def _says(self, slot: str) -> str:
        """The digest of the release that runs in a slot, by its own word."""
        (answer,) = self.services.ask([Question(self.entry.service, self.version, slot)])
        if not isinstance(answer, Answer):
            raise answer
        try:
            return msgspec.json.decode(answer.body, type=_Version).release
        except msgspec.DecodeError:
            raise Refused(
                f"{slot} does not say what runs there: {self.version} answers {answer.status}",
                hint='it is to answer with JSON in which "release" is the digest',
            ) from None

    def _runs(self, slot: str, digest: str) -> bool:
        """Whether it runs, as far as it says: one that is silent is started anew."""
        try:
            return self._host(slot).running(slot) and self._says(slot) == digest
        except TargetError:
            return False

    def _await(self, slot: str, digest: str) -> None:
        """Wait until the slot says that the release runs in it.

        Raises:
            Refused: it has ended, or says something else still.
            DeadlineExceeded: it says nothing.
        """
        host, end, again = self._host(slot), time.monotonic() + self.entry.ready_within, 0.0
        said: str | TargetError = ""
        while time.monotonic() < end:
            said = self._heard(slot)
            if said == digest:
                return
            if time.monotonic() >= again:
                if not host.running(slot):
                    raise Refused(f"{digest[:16]} ended as soon as it was started in {slot}", hint="look at its log")
                again = time.monotonic() + _LOOK_AGAIN_S
            time.sleep(_POLL_S)
        if isinstance(said, TargetError):
            raise DeadlineExceeded(
                f"{digest[:16]} in {slot} did not say within {self.entry.ready_within:g} s that it runs: {said}",
                hint="look at its log",
            )
        raise Refused(
            f"{slot} says that {said[:16] or 'no release'} runs there, not {digest[:16]}",
            hint="the program that starts it is to take what the slot's link points to",
        )

    def _heard(self, slot: str) -> str | TargetError:
        try:
            return self._says(slot)
        except TargetError as error:
            return error

    # --- what lies there ---

    def _host(self, slot: str) -> Host:
        if slot not in self.hosts:
            raise Refused(f"there is no slot {slot!r}", hint=f"there are {', '.join(self.hosts)}")
        return self.hosts[slot]

    def _files(self, digest: str) -> Iterator[Packed]:
        with self.releases.artifact(digest).open("rb") as artifact, reading(artifact, digest) as files:
            yield from files

    def _check(self, host: Host, digest: str) -> None:
        """Compare all files of a release on a host with those of the artifact, which is read and verified again."""
        files = {file.path: (file.sha256, file.executable) for file in self._files(digest)}
        ask(host, "check", self.entry.lay_within, root=host.root, digest=digest, files=files)

    def _run(self, program: Program, slot: str, release: Release, deadline_s: float, kind: str = "") -> str:
        host = self._host(slot)
        folder = f"{host.root.rstrip('/')}/releases/{release.digest}"
        known = {
            "{release}": folder,
            "{environment}": f"{host.environments.rstrip('/')}/{release.lock}",
            "{url}": self.urls[slot],
            "{slot}": slot,
            "{kind}": kind,
        }
        words = [_filled(word, known) for word in program]
        code, said = run_there(host, words, folder, deadline_s)
        if code:
            raise Refused(
                f"{program[0]} of {release.version} on {host.name} ended with {code}: {last_words(said)}",
                hint="[delivery] names the program",
            )
        return said


def _filled(word: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        word = word.replace(name, value)
    return word


def _framed(file: Packed) -> Iterator[bytes]:
    about = {"path": file.path, "size": len(file.data), "sha256": file.sha256, "executable": file.executable}
    yield msgspec.json.encode(about) + b"\n"
    yield file.data


def _ended(frames: Iterator[bytes]) -> Iterator[bytes]:
    yield from frames
    yield b"null\n"


def open_slots(manifest: Manifest, *, control: Control, releases: Releases, services: Services) -> ReleaseSlots:
    """The slots of the service that is delivered: its instances, and the spare ones. Nothing is asked yet.

    Raises:
        ManifestError: [delivery] does not say where they are, or its service not what it runs.
    """
    entry = manifest.delivery
    service = next((one for one in manifest.services if entry and one.name == entry.service), None)
    if entry is None or service is None:
        raise ManifestError("[delivery] names no service of [[services]]", hint="[delivery] service")
    if service.version is None:
        raise ManifestError(
            f"[[services]] {service.name} has no version: what runs in a slot is read from there",
            hint='version = "/version", whose answer has the release\'s digest as "release"',
        )
    named = [*((one.name, one.url) for one in service.instances), *((one.name, one.url) for one in entry.spare)]
    urls = dict(named)
    return ReleaseSlots(
        entry=entry,
        releases=releases,
        services=services,
        hosts={slot: _host_of(slot, entry, manifest, control) for slot in urls},
        urls=urls,
        version=service.version,
    )


def _host_of(slot: str, entry: DeliveryEntry, manifest: Manifest, control: Control) -> Host:
    for remote in entry.hosts:
        if slot in remote.slots:
            return RemoteHost(remote, manifest.control.deadline)
    if entry.root is None:
        raise ManifestError(
            f"[delivery] does not say where the slot {slot} is",
            hint="root is a folder of this host, or add it to a host",
        )
    return LocalHost(str(entry.root), str(entry.environments or entry.root / "environments"), control)
