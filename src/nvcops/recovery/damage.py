"""What of the platform is there and what is not, before a recovery and after it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

import msgspec

from nvcops.core.backups import PlatformPoint
from nvcops.core.catalogue import present
from nvcops.core.errors import NvcopsError, TargetError
from nvcops.core.manifest import Manifest
from nvcops.core.runs import conduct
from nvcops.core.target import Database, Question, Target
from nvcops.core.together import side_by_side
from nvcops.recovery.standing import backups_of

_LOOK_BACK = dt.timedelta(days=1)
_PAUSE_S = 0.5
_DOOR_S, _CUSTOMER_S, _RECEIVER_S = 120.0, 60.0, 90.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that can be started: its role is primary, cache, instance, proxy or standby.

    `running` None: not known, and `trouble` says why.
    """

    name: str
    role: str
    running: bool | None = None
    trouble: str = ""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """What is there and what is not, at `seen`.

    `database` says why the primary takes no writes, `doors` why services are not ready for their customers; empty:
    they are. `standbys` are those that answer. `acknowledged` is when a customer's write was last acknowledged, where
    that is written down.
    """

    seen: dt.datetime
    parts: tuple[Part, ...]
    database: str = ""
    standbys: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()
    acknowledged: dt.datetime | None = None

    def names(self, *roles: str) -> list[str]:
        """The parts of some roles, in the roles' order."""
        return [part.name for role in roles for part in self.parts if part.role == role]

    @property
    def down(self) -> tuple[Part, ...]:
        """The parts of which it is not known that they run."""
        return tuple(part for part in self.parts if not part.running)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return not (self.down or self.database or self.doors)


class Backed(msgspec.Struct, frozen=True, kw_only=True):
    """What the repository has to restore from. `trouble`: why that is not known."""

    point: PlatformPoint | None = None
    backups: int = 0
    newest: str = ""
    timeline: int = 0
    trouble: str = ""


class FilesLost(msgspec.Struct, frozen=True, kw_only=True):
    """What is missing of the newest platform point's files: the release (its backup and folder), and configuration.

    `missing` paths of the configuration are not there, `changed` ones are others; `live` is what they are now.
    """

    release: str = ""
    folder: str = ""
    configuration: str = ""
    live: str = ""
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    trouble: str = ""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """How it goes on after a recovery.

    `again` is when a customer's write was acknowledged anew. Of the writes that were acknowledged in the day before the
    loss, `acknowledged` were looked for, and `missing` are not there. The troubles say why something is not known.
    """

    again: dt.datetime | None = None
    acknowledged: int = 0
    missing: int = 0
    customers_trouble: str = ""
    receiver_trouble: str = ""


def parts_of(manifest: Manifest) -> list[Part]:
    """The parts that the manifest names, in the order in which they are started.

    A service needs its database and cache, the proxy its instances; a standby is made anew when customers are served.
    """
    database, cache, proxy = manifest.database, manifest.cache, manifest.proxy
    parts = [Part(name=database.primary.name, role="primary")] if database else []
    parts += [Part(name=cache.name, role="cache")] if cache else []
    parts += [Part(name=each.name, role="instance") for service in manifest.services for each in service.instances]
    parts += [Part(name=proxy.name, role="proxy")] if proxy else []
    return parts + [Part(name=each.name, role="standby") for each in (database.standbys if database else ())]


def damage(target: Target) -> Damage:
    """Look at every part of the platform."""
    now = target.host.now()
    standbys = list(target.standbys)
    answers = side_by_side(_asked, standbys)
    return Damage(
        seen=now,
        parts=tuple(_looked_at(target, part) for part in parts_of(target.manifest)),
        database=primary_trouble(target),
        standbys=tuple(
            each.name
            for each, answer in zip(standbys, answers, strict=True)
            if not isinstance(answer, TargetError) and answer
        ),
        doors=doors_trouble(target),
        acknowledged=_last_acknowledged(target, now),
    )


def primary_trouble(target: Target) -> str:
    """Why the primary takes no writes; empty: it does, or there is none to ask."""
    if target.database is None:
        return ""
    try:
        return "the primary is still recovering" if _asked(target.database) else ""
    except TargetError as error:
        return error.sentence


def doors_trouble(target: Target) -> tuple[str, ...]:
    """Why services are not ready for their customers."""
    questions = [Question(service.name, service.ready) for service in target.manifest.services]
    answers = zip(questions, target.services.ask(questions), strict=True)
    return tuple(
        f"{question.subject} {answer.sentence if isinstance(answer, TargetError) else f'answers {answer.status}'}"
        for question, answer in answers
        if isinstance(answer, TargetError) or answer.status != 200
    )


def backed(target: Target) -> Backed:
    """Read what the repository has: the newest platform point, the newest backup."""
    try:
        entries = present(backups_of(target).catalogue())
    except NvcopsError as error:
        return Backed(trouble=error.sentence)
    points = [entry.point for entry in entries if entry.point]
    bases = [entry for entry in entries if entry.database]
    newest = bases[-1] if bases else None
    return Backed(
        point=points[-1] if points else None,
        backups=len(bases),
        newest=newest.id if newest else "",
        timeline=newest.database.timeline if newest and newest.database else 0,
    )


@conduct(deadline="15 min", idempotent=True)
def files_lost(target: Target, point: PlatformPoint | None) -> FilesLost:
    """Compare release and configuration with those of the newest platform point."""
    if point is None or target.files is None:
        return FilesLost()
    entry = target.manifest.backups
    release = entry.application if entry else None
    gone = release is not None and point.application and not (release.is_dir() and any(release.iterdir()))
    lost = FilesLost(release=point.application if gone else "", folder=str(release or ""))
    if not point.configuration:
        return lost
    try:
        found = target.files.differences(point.configuration)
    except NvcopsError as error:
        return msgspec.structs.replace(lost, trouble=error.sentence)
    return msgspec.structs.replace(
        lost,
        configuration=found.id,
        live=found.live,
        missing=tuple(change.path for change in found.changes if change.what == "create"),
        changed=tuple(change.path for change in found.changes if change.what != "create"),
    )


@conduct(deadline="5 min", idempotent=True)
def service(target: Target, lost: dt.datetime, back: dt.datetime) -> Service:
    """Wait until the log is received and customers' writes are acknowledged again; look for those before the loss."""
    receiver = _receiver_trouble(target)
    if target.clients is None:
        trouble = "platform.toml names no journal of acknowledgements ([recovery.acknowledgements])"
        return Service(customers_trouble=trouble, receiver_trouble=receiver)
    try:
        kept = target.clients.kept(lost - _LOOK_BACK, lost)
        found = Service(acknowledged=kept.acknowledged, missing=kept.missing, receiver_trouble=receiver)
        again = target.clients.acknowledged_after(back, _CUSTOMER_S)
        return msgspec.structs.replace(found, again=again)
    except TargetError as error:
        return Service(customers_trouble=error.sentence, receiver_trouble=receiver)


def wait_for_database(target: Target, deadline_s: float) -> str:
    """Wait until the primary takes writes; why it does not, empty when it does."""
    return _until_empty(lambda: primary_trouble(target), deadline_s)


def wait_for_doors(target: Target) -> str:
    """Wait until every service is ready for its customers; why one is not."""
    return _until_empty(lambda: "; ".join(doors_trouble(target)), _DOOR_S)


def _receiver_trouble(target: Target) -> str:
    try:
        backups = backups_of(target)
    except TargetError as error:
        return error.sentence

    def trouble() -> str:
        try:
            state = backups.receiver()
        except TargetError as error:
            return error.sentence
        received = state.running and (state.slot_active or not state.slot)  # an archiver has none
        # What it said last counts too: the backup that follows judges it by that.
        return state.trouble or ("" if received else "nothing receives the transaction log")

    return _until_empty(trouble, _RECEIVER_S)


def _until_empty(trouble: Callable[[], str], deadline_s: float) -> str:
    end = time.monotonic() + deadline_s
    while (said := trouble()) and time.monotonic() < end:
        time.sleep(_PAUSE_S)
    return said


def _looked_at(target: Target, part: Part) -> Part:
    try:
        return msgspec.structs.replace(part, running=target.control.running(part.name))
    except TargetError as error:
        return msgspec.structs.replace(part, trouble=error.sentence)


def _asked(server: Database) -> bool:
    """Whether a server that answers is in recovery."""
    return bool(server.rows("SELECT pg_is_in_recovery() AS recovering")[0]["recovering"])


def _last_acknowledged(target: Target, now: dt.datetime) -> dt.datetime | None:
    if target.clients is None:
        return None
    try:
        return target.clients.seen(now - _LOOK_BACK, now).last
    except TargetError:
        return None  # then nobody knows since when: the moment at which it was seen counts
