"""What the types cannot say of a delivery: slots without a host, programs that are told nothing, strategies in vain."""

from __future__ import annotations

from collections.abc import Iterator

from nvcops.core.manifest.delivery import Analysis, DeliveryEntry
from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.strategies import BUILT_IN, mistakes
from nvcops.core.manifest.tables import Manifest, ServiceEntry

Mistake = tuple[Place, str, str]
_AT = "delivery"


def delivered(manifest: Manifest) -> Iterator[Mistake]:
    """All of them: (place, sentence, hint)."""
    entry = manifest.delivery
    if entry is None:
        return
    service = next((one for one in manifest.services if one.name == entry.service), None)
    if service is None:
        there = ", ".join(one.name for one in manifest.services) or "none"
        yield (_AT, "service"), f"{entry.service!r} is no service of [[services]]", f"there: {there}"
        return
    yield from _service(entry, service)
    yield from _slots(entry, service)
    yield from _programs(manifest, entry)
    yield from _strategies(entry, len(service.instances), len(entry.spare))
    yield from _analysis(entry.analysis, service)


def _service(entry: DeliveryEntry, service: ServiceEntry) -> Iterator[Mistake]:
    if service.version is None:
        hint = 'version = "/version": JSON with "version" and "release", the release\'s digest'
        yield (_AT, "service"), f"{service.name} is not asked what it runs, so nothing could be read back", hint
    if not service.instances:
        yield (
            (_AT, "service"),
            f"{service.name} has no instances: there is no slot to release into",
            "instances = [...]",
        )
    if not entry.builders:
        hint = 'builders = [{ name = "ci", key = "ssh-ed25519 ..." }]'
        yield (_AT, "builders"), "nobody's signature of a release counts: none could be deployed", hint


def _slots(entry: DeliveryEntry, service: ServiceEntry) -> Iterator[Mistake]:
    main = {instance.name for instance in service.instances}
    for index, slot in enumerate(entry.spare):
        if slot.name in main:
            yield (_AT, "spare", index, "name"), f"{slot.name!r} is an instance of the service too", "spare: not used"
    slots = main | {slot.name for slot in entry.spare}
    placed = [name for host in entry.hosts for name in host.slots]
    for index, host in enumerate(entry.hosts):
        for name in host.slots:
            if name not in slots:
                yield (_AT, "hosts", index, "slots"), f"{name!r} is no slot", f"there: {', '.join(sorted(slots))}"
            elif placed.count(name) > 1:
                yield (_AT, "hosts", index, "slots"), f"{name!r} is on two hosts", "a slot is in one place"
    if entry.root is None and (homeless := sorted(slots - set(placed))):
        hint = "root = FOLDER for slots of this host, or [[delivery.hosts]]"
        at: Place = (_AT, "hosts", len(entry.hosts) - 1) if entry.hosts else (_AT,)
        yield at, f"it is not said where {', '.join(homeless)} lie", hint


def _programs(manifest: Manifest, entry: DeliveryEntry) -> Iterator[Mistake]:
    for name, word in (("migrate", "{release}"), ("self_test", "{url}")):
        program = getattr(entry, name)
        if program and not any(word in part for part in program):
            yield (_AT, name), f"{name} does not say {word}", f'as in ["...", "{word}"]'
    if entry.migrate and not entry.applied:
        hint = "a query of name and sha256 of what is applied"
        yield (_AT, "applied"), "releases bring migrations, and nobody could read which are applied", hint
    if entry.applied and manifest.database is None:
        yield (_AT, "applied"), "there is no [database] to ask", "leave `applied` out, or write the [database]"
    if entry.root is not None:
        for name in ("start", "stop", "running"):
            if not getattr(manifest.control, name):
                yield (_AT, "root"), f"slots of this host are not {name}ed by anything", f"[control] {name}"
    if entry.backend and manifest.proxy and manifest.proxy.backends and entry.backend not in manifest.proxy.backends:
        there = ", ".join(manifest.proxy.backends)
        yield (_AT, "backend"), f"{entry.backend!r} is no backend of [proxy]", f"there: {there}"


def _strategies(entry: DeliveryEntry, main: int, spare: int) -> Iterator[Mistake]:
    names = [one.name for one in (*BUILT_IN, *entry.strategies)]
    if entry.default not in names:
        yield (_AT, "default"), f"there is no strategy {entry.default!r}", f"there: {', '.join(dict.fromkeys(names))}"
    written = {one.name for one in entry.strategies}
    for index, strategy in enumerate(entry.strategies):
        for place, said, hint in mistakes(strategy.steps, main, spare):
            yield (_AT, "strategies", index, "steps", *place), f"{strategy.name}: {said}", hint
    for strategy in BUILT_IN:
        if strategy.name == entry.default and strategy.name not in written:
            for _, said, hint in mistakes(strategy.steps, main, spare):
                yield (_AT, "default"), f"{strategy.name}: {said}", hint


def _analysis(analysis: Analysis, service: ServiceEntry) -> Iterator[Mistake]:
    at = (_AT, "analysis")
    if analysis.warm_up >= analysis.time_limit:
        yield (*at, "warm_up"), "the warm-up takes all of the time limit", "make the time limit longer"
    for name in ("alpha", "beta"):
        if not 0 < getattr(analysis, name) < 0.5:
            yield (*at, name), f"{name} is a share of wrong verdicts: above 0, below 50 %", 'as in "1 %"'
    if not 1 < analysis.margin <= 50:
        yield (*at, "margin"), "the margin is above 1, and 50 at most", "2: half as good is not good enough"
    if analysis.unit == "user" and analysis.cluster_max is None:
        yield (*at, "cluster_max"), "a user's errors come together, and it is not said how many", "cluster_max = 20"
    if not analysis.edges:
        if analysis.prove:
            yield (*at, "prove"), "what is to be proven is not looked at", "edges: the histogram's"
        return
    yield from _edges(analysis, at)
    if service.series is None or service.metrics is None:
        yield (*at, "edges"), f"{service.name} has no latency histogram", "services.metrics and services.series"


def _edges(analysis: Analysis, at: Place) -> Iterator[Mistake]:
    try:
        seconds = [float(edge) for edge in analysis.edges]
    except ValueError as error:
        yield (*at, "edges"), f"an edge of the histogram is a number of seconds: {error}", 'as its `le` says: "0.25"'
        return
    if seconds != sorted(set(seconds)) or not all(0 < one < float("inf") for one in seconds):
        yield (*at, "edges"), "the edges go upwards from above 0, and end before +Inf", 'as in ["0.1", "0.25"]'
    if not analysis.prove:
        yield (*at, "prove"), "latency is looked at, and nothing of it is to be proven", "prove: some of `edges`"
    for edge in analysis.prove:
        if edge not in analysis.edges:
            yield (*at, "prove"), f"{edge} is no edge that is looked at", "prove: some of `edges`"
