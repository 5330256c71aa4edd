"""While a slot is given another release on purpose, nobody is paged for it: by a silence of the slot, which ends.

What still fires when it has ended is told then: a slot that does not come back pages, and so does one whose deployer
died. Nothing else is silenced: that customers are not served, or another slot fails, is told at once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from nvcops.core import schedule
from nvcops.core.alerts import Matcher, Silence
from nvcops.core.errors import StateError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.progress import tell
from nvcops.core.target import Target
from nvcops.core.watch import PART, ROLE
from nvcops.delivery.standing import entry_of, service_of

AUTHOR = "rollout"
_LOOKS = 3  # so many more than make a probe well again: the alert's end is taken in after that


def matchers_for(manifest: Manifest, slot: str) -> tuple[Matcher, ...]:
    """What the probe of a slot says of it, whatever it says."""
    service = service_of(manifest).name
    return (Matcher(ROLE, "=", "instance"), Matcher(PART, "=", slot), Matcher("service", "=", service))


def longest(manifest: Manifest) -> dt.timedelta:
    """How long a slot may take: drained, started, ready and tested; then it is no plan any more."""
    entry = entry_of(manifest)
    return dt.timedelta(seconds=entry.drain_within + entry.ready_within + entry.test_within) + settled_after(manifest)


def settled_after(manifest: Manifest) -> dt.timedelta:
    """How long it takes until the watch has seen that a slot is well again."""
    watch = manifest.watch
    return dt.timedelta(seconds=(watch.recoveries + _LOOKS) * (watch.interval + watch.deadline))


@contextmanager
def quiet(target: Target, slot: str, digest: str) -> Iterator[None]:
    """Page nobody for a slot that is given another release here, nor for the moments until the watch has seen it well.

    A main slot only: nobody is paged for spare ones. Where the records are away it is done all the same.
    """
    if slot not in {one.name for one in service_of(target.manifest).instances}:
        yield
        return
    made = _made(target, slot, digest)
    try:
        yield
    finally:
        if made is not None:
            _shortened(target, made)


def _made(target: Target, slot: str, digest: str) -> Silence | None:
    if target.records is None:
        return None
    at, manifest = schedule.now(), target.manifest
    made = Silence(
        id=hashlib.sha256(f"{AUTHOR}/{slot}/{digest}/{utc(at)}".encode()).hexdigest()[:16],
        matchers=matchers_for(manifest, slot),
        starts=at,
        ends=at + longest(manifest),
        author=AUTHOR,
        reason=f"{slot} is given release {digest[:8]}",
        created=at,
        reminded=at,  # nobody needs to be told that it ends
    )
    try:
        with target.records.changing() as desk:
            if desk.add(made):
                desk.note(_entry(manifest, made, at))
    except StateError as error:
        tell(0, 0, f"pages of {slot} are not silenced: {error.sentence}")
        return None
    return made


def _shortened(target: Target, made: Silence) -> None:
    """Let it end as soon as the watch has had its time: it has its own end where this cannot be written."""
    records, ends = target.records, schedule.now() + settled_after(target.manifest)
    if records is None or ends >= made.ends:
        return
    try:
        with records.changing() as desk:
            known = desk.get(Silence, made.id)
            if known is not None:
                desk.put(msgspec.structs.replace(known, ends=ends))
    except StateError as error:
        tell(0, 0, f"pages of {made.reason.split()[0]} are silenced until {made.ends:%H:%M:%S %Z}: {error.sentence}")


def _entry(manifest: Manifest, made: Silence, at: dt.datetime) -> Entry:
    return Entry(
        id=f"silence.made/{made.id}",
        time=utc(at),
        kind="silence.made",
        platform=manifest.platform.name,
        actor=made.author,
        subject=made.id,
        body={"matchers": [str(one) for one in made.matchers], "reason": made.reason, "until": utc(made.ends)},
    )
