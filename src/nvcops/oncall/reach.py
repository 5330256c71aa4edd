"""Whether people can be reached: a code is sent on each of their channels, and they say it back."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.errors import NotFoundError, TargetError, UsageError
from nvcops.core.evidence import Entry, utc
from nvcops.core.manifest import Manifest
from nvcops.core.oncall import Message, Reach
from nvcops.core.procedures import procedure
from nvcops.core.records import Desk, Reading, Records
from nvcops.core.runs import Run, conduct
from nvcops.core.target import Target
from nvcops.core.units import Seconds
from nvcops.oncall.outbox import id_of
from nvcops.oncall.texts import details, entry_id, line

# --- Facts ---

TESTS_MAX = 5_000
KEPT_FOR = dt.timedelta(days=400)


def records_of(target: Target) -> Records:
    """Where pages and overrides are kept.

    Raises:
        TargetError: nowhere.
    """
    if target.records is None:
        raise TargetError("the records of pages and overrides are not open", hint="see [records] in platform.toml")
    return target.records


def tests_of(reading: Reading, at: dt.datetime) -> list[Reach]:
    """The reachability tests of the last KEPT_FOR, the newest first."""
    return reading.find(Reach, sent__gt=at - KEPT_FOR, order="-sent", limit=TESTS_MAX)


@conduct(deadline="1 min", idempotent=True)
def reach_tests(target: Target, now: dt.datetime) -> list[Reach]:
    """The reachability tests: what was sent, and what was confirmed."""
    with records_of(target).reading() as reading:
        return tests_of(reading, now)


# --- Rules ---

REACHED = Check(
    "oncall.reached",
    "Reachability test",
    "`nvcops run reachability-test` sends a code; `nvcops oncall confirm` says it back",
)
VALID_FOR = dt.timedelta(hours=24)


class Way(msgspec.Struct, frozen=True):
    """Somebody who is asked by a policy, and one of their channels."""

    to: str
    channel: str


def asked_at_all(manifest: Manifest) -> list[str]:
    """Everybody whom a policy can ask, by name: of the rotations, and by themselves."""
    rotations = {rotation.name: rotation.people for rotation in manifest.oncall.rotations}
    names: set[str] = set()
    for policy in manifest.oncall.policies:
        for step in policy.steps:
            names |= set(rotations.get(step.rotation or "", ())) | {step.person or "", step.contact or ""}
    return sorted(names - {""})


def ways(manifest: Manifest) -> list[Way]:
    """Every channel on which somebody can be asked."""
    return [
        Way(name, f"{index}:{contact.kind}")
        for name in asked_at_all(manifest)
        for index, contact in enumerate(manifest.reach(name) or ())
    ]


def confirmations(tests: Sequence[Reach]) -> dict[tuple[str, str], dt.datetime]:
    """When each person last confirmed a code on each channel."""
    newest: dict[tuple[str, str], dt.datetime] = {}
    for test in tests:
        if test.confirmed is not None:
            key = test.person, test.channel
            newest[key] = max(test.confirmed, newest.get(key, test.confirmed))
    return newest


def reach_findings(manifest: Manifest, tests: Sequence[Reach], at: dt.datetime) -> list[Finding]:
    """How long ago each channel was last confirmed; longer than [oncall] reach_test_every is a warning."""
    found, confirmed = ways(manifest), confirmations(tests)
    if not found:
        return [REACHED.unknown("nobody whom a policy asks has a contact")]
    return [_reach_finding(way, confirmed, manifest.oncall.reach_test_every, tests, at) for way in found]


def _reach_finding(
    way: Way,
    confirmed: Mapping[tuple[str, str], dt.datetime],
    every: Seconds,
    tests: Sequence[Reach],
    at: dt.datetime,
) -> Finding:
    subject, last = f"{way.to} {way.channel}", confirmed.get((way.to, way.channel))
    sent = max((test.sent for test in tests if (test.person, test.channel) == (way.to, way.channel)), default=None)
    waits = sent is not None and at - sent <= VALID_FOR and (last is None or last < sent)
    asked = "; a code was sent, and is not confirmed yet" if waits else ""
    if last is None:
        return REACHED.finding(Verdict.WARNING, f"never confirmed{asked}", subject=subject, limit=f"each {every}")
    age = Seconds(max(0.0, (at - last).total_seconds()))
    late = age > every + VALID_FOR.total_seconds()  # the day on which the code of the next test is said back
    verdict = Verdict.WARNING if late else Verdict.OK
    return REACHED.finding(verdict, f"confirmed {age} ago{asked}", subject=subject, limit=f"each {every}")


def code_hash(test_id: str, code: str) -> str:
    """What is kept of a code."""
    return hashlib.sha256(f"{test_id}/{code}".encode()).hexdigest()


def matching(tests: Sequence[Reach], code: str, at: dt.datetime) -> Iterator[Reach]:
    """The tests of which that is the code, and which are not older than VALID_FOR."""
    for test in tests:
        valid = test.sent <= at <= test.sent + VALID_FOR
        if valid and hmac.compare_digest(test.code_sha256, code_hash(test.id, code)):
            yield test


# --- Procedures ---


def send_code(desk: Desk, *, manifest: Manifest, to: str, channel: str, code: str, cause: str, at: dt.datetime) -> bool:
    """Send somebody a code on one channel, once per cause; whether it was now."""
    reach_id = id_of(cause, to, channel)
    test = Reach(id=reach_id, person=to, channel=channel, code_sha256=code_hash(reach_id, code), sent=at)
    if not desk.add(test):
        return False
    said = f"Reachability test of {manifest.platform.title}. Confirm with: nvcops oncall confirm {code}"
    message = Message(
        id=reach_id,
        to=to,
        channel=channel,
        subject=line("", said),
        body=details([said, f"It is valid for {Seconds(VALID_FOR.total_seconds())}. Nothing is wrong."]),
        purpose="reach-test",
        created=at,
        due=at,
    )
    return desk.add(message)


def confirm(desk: Desk, *, manifest: Manifest, person: str, code: str, at: dt.datetime) -> Reach:
    """Somebody says the code that they were sent; the test that it confirms. Said again, it is the same.

    Raises:
        NotFoundError: nobody of that name is asked by a policy.
        UsageError: it is not a code that they were sent in the last VALID_FOR.
    """
    if manifest.reach(person) is None:
        raise NotFoundError(f"{person!r} is nobody in [[people]] or [[contacts]]", hint="`nvcops oncall who`")
    theirs = desk.find(Reach, person=person, sent__gt=at - VALID_FOR, limit=TESTS_MAX)
    test = next(matching(theirs, code.strip(), at), None)
    if test is None:
        sentence = f"that is no code which {person} was sent in the last {Seconds(VALID_FOR.total_seconds())}"
        raise UsageError(sentence, hint="`nvcops run reachability-test` sends another")
    if test.confirmed is None:
        test = msgspec.structs.replace(test, confirmed=at)
        desk.put(test)
        entry = Entry(
            id=entry_id("oncall.reached", test.id),
            time=utc(at),
            kind="oncall.reached",
            platform=manifest.platform.name,
            actor=person,
            subject=f"{person} {test.channel}",
            body={"sent": utc(test.sent), "seconds": round((at - test.sent).total_seconds(), 3)},
        )
        desk.note(entry)
    return test


@procedure("reachability-test", when="first Mon 10:00", lock="reachability", needs=["oncall"])
def reachability_test(run: Run, target: Target) -> None:
    """Send everybody who can be paged a code on each of their channels, to say back with `nvcops oncall confirm`.

    A channel counts as tested when its code was said back; what was confirmed, and how long ago, is the verdict.
    """
    channels = len(ways(target.manifest))
    run.step(f"send a code on each of {channels} channels", send_codes, target, run.id, run.started)
    run.conclude(reach_findings(target.manifest, run.read(reach_tests, target, run.started), run.started))


@conduct(deadline="1 min", idempotent=True, attempts=3)
def send_codes(target: Target, cause: str, now: dt.datetime) -> int:
    """Write a message with a code of its own for every channel; how many there were."""
    with records_of(target).changing() as desk:
        sent = [
            send_code(
                desk,
                manifest=target.manifest,
                to=way.to,
                channel=way.channel,
                code=f"{secrets.randbelow(10**6):06}",
                cause=cause,
                at=now,
            )
            for way in ways(target.manifest)
        ]
    return sum(sent)
