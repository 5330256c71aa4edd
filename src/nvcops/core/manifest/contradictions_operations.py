"""What the types cannot say of who is woken: rotations of nobody, policies that ask nobody, objectives of nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from nvcops.core.manifest.contradictions_probes import watched
from nvcops.core.manifest.lines import Place
from nvcops.core.manifest.operations import Contact, ObjectiveEntry
from nvcops.core.manifest.tables import Manifest
from nvcops.core.units import Seconds

_SHIFT_MIN = Seconds(3600)
_SOON = ("daily", "weekdays", "weekly", "every")
Mistake = tuple[Place, str, str]


def operations(manifest: Manifest) -> Iterator[Mistake]:
    """All of them: (place, sentence, hint)."""
    yield from _reached(manifest)
    yield from _rotations(manifest)
    yield from _policies(manifest)
    yield from _informed(manifest)
    yield from _objectives(manifest)
    yield from watched(manifest)
    yield from _listening(manifest)


def _reached(manifest: Manifest) -> Iterator[Mistake]:
    for table in ("people", "contacts"):
        for index, entry in enumerate(getattr(manifest, table)):
            contacts: Sequence[Contact] = entry.contacts
            for number, contact in enumerate(contacts):
                if (contact.url is None) == (contact.url_file is None):
                    place = (table, index, "contacts", number)
                    yield place, "a contact has either `url` or `url_file`", "a secret stands in a file of its own"
    people = {person.name for person in manifest.people}
    for index, contact_entry in enumerate(manifest.contacts):
        if contact_entry.name in people:
            sentence = f"{contact_entry.name!r} is a person and a contact"
            yield ("contacts", index, "name"), sentence, "names are unique over [[people]] and [[contacts]]"


def _rotations(manifest: Manifest) -> Iterator[Mistake]:
    for index, rotation in enumerate(manifest.oncall.rotations):
        place: Place = ("oncall", "rotations", index)
        if not rotation.people:
            yield (*place, "people"), f"nobody is in the rotation {rotation.name!r}", "name people of [[people]]"
        for name in rotation.people:
            if manifest.person(name) is None:
                yield (*place, "people"), f"{name!r} is nobody in [[people]]", "add the person"
        if rotation.handover.form not in _SOON:
            hint = 'write "Mon 09:00", "daily 09:00", "weekdays 09:00" or "every 12 h"'
            yield (*place, "handover"), f"{str(rotation.handover)!r} is no hand-over", hint
        elif rotation.handover.form == "every" and Seconds.read(rotation.handover.removeprefix("every ")) < _SHIFT_MIN:
            sentence = f"{str(rotation.handover)!r} is too often for a hand-over"
            yield (*place, "handover"), sentence, f"{_SHIFT_MIN} at least"


def _policies(manifest: Manifest) -> Iterator[Mistake]:
    rotations = {rotation.name for rotation in manifest.oncall.rotations}
    contacts = {contact.name for contact in manifest.contacts}
    for index, policy in enumerate(manifest.oncall.policies):
        if not policy.steps:
            yield ("oncall", "policies", index, "steps"), f"the policy {policy.name!r} asks nobody", "add a step"
        for number, step in enumerate(policy.steps):
            place: Place = ("oncall", "policies", index, "steps", number)
            if sum(asked is not None for asked in (step.rotation, step.person, step.contact)) != 1:
                yield place, "a step asks a rotation, a person or a contact", "write one of the three"
            elif step.rotation is not None and step.rotation not in rotations:
                yield (
                    place,
                    f"there is no rotation {step.rotation!r}",
                    f"there: {', '.join(sorted(rotations)) or 'none'}",
                )
            elif step.person is not None and manifest.person(step.person) is None:
                yield place, f"{step.person!r} is nobody in [[people]]", "add the person"
            elif step.contact is not None and step.contact not in contacts:
                yield place, f"{step.contact!r} is nobody in [[contacts]]", "add the contact"


def _informed(manifest: Manifest) -> Iterator[Mistake]:
    contacts = {contact.name for contact in manifest.contacts}
    for index, informed in enumerate(manifest.incidents.informed):
        place: Place = ("incidents", "informed", index)
        for name in informed.people:
            if manifest.person(name) is None:
                yield (*place, "people"), f"{name!r} is nobody in [[people]]", "add the person"
        for name in informed.contacts:
            if name not in contacts:
                yield (*place, "contacts"), f"{name!r} is nobody in [[contacts]]", "add the contact"


def _objectives(manifest: Manifest) -> Iterator[Mistake]:
    services = {service.name: service for service in manifest.services}
    for index, objective in enumerate(manifest.slos):
        place: Place = ("slos", index)
        service = services.get(objective.service)
        if service is None:
            hint = f"there: {', '.join(services) or 'none'}"
            yield (*place, "service"), f"there is no service {objective.service!r}", hint
        elif objective.indicator != "availability" and service.series is None:
            hint = "[services.series] names the service's own metrics"
            yield (*place, "indicator"), f"the service {objective.service!r} has no series", hint
        elif objective.indicator == "outcomes" and service.series and service.series.outcomes is None:
            yield (*place, "indicator"), f"the series of {objective.service!r} have no outcomes", "name the counter"
        yield from _objective(place, objective)


def _objective(place: Place, objective: ObjectiveEntry) -> Iterator[Mistake]:
    if not 0 < objective.target < 1:
        yield (
            (*place, "target"),
            f"{objective.target} leaves no error budget",
            'more than 0 %, less than 100 %: "99.9 %"',
        )
    if (objective.threshold is not None) != (objective.indicator == "latency"):
        yield (*place, "indicator"), "a threshold is of latency, and latency needs one", 'threshold = "250 ms"'
    if bool(objective.good) != (objective.indicator == "outcomes"):
        yield (*place, "indicator"), "`good` is of outcomes, and outcomes need it", 'good = ["settled"]'


def _listening(manifest: Manifest) -> Iterator[Mistake]:
    listen = manifest.alerts.listen
    if listen is None:
        return
    host, _, port = listen.rpartition(":")
    if not 0 < int(port) < 65536:
        yield ("alerts", "listen"), f"{port} is no port", "1 to 65535"
    if manifest.alerts.token_file is None and not _own(host):
        hint = "token_file, or listen on 127.0.0.1"
        yield ("alerts", "listen"), f"{host} is reached from elsewhere, and no token is asked", hint


def _own(host: str) -> bool:
    """Whether only this host reaches an address.

    >>> _own("localhost"), _own("127.0.0.1"), _own("0.0.0.0"), _own("ops.example.com")
    (True, True, False, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
