"""One notice may tell of several incidents: each gets what is its own, and a new firing is never lost in an old one."""

from __future__ import annotations

import msgspec
from incident_world import DOOR, NOON, ONE, alert, minutes, notice, opened, over

from desk import MemoryDesk
from nvcops.core.alerts import Notice
from nvcops.core.incidents import Incident, IncidentAlert, IncidentState, Severity
from nvcops.core.manifest import Manifest
from nvcops.incidents import leading, opening
from nvcops.incidents.announced import announce_drill, end_drill

DISK = alert("LimitExceeded", part="disk", limit="disk_used", service="bank", signal="redundancy")


def told(desk: MemoryDesk, manifest: Manifest, tells: Notice) -> list[Incident | None]:
    """What a notice's parts become."""
    return [opening.of_notice(desk, part, manifest=manifest, at=tells.at) for part in opening.parts(desk, tells)]


def test_what_fires_anew_opens_an_incident_beside_what_an_old_one_left_firing(
    desk: MemoryDesk, manifest: Manifest
) -> None:
    opened(desk, manifest, DISK)
    leading.acknowledge(desk, 1, manifest=manifest, person="dana", at=minutes(2))
    leading.resolve(
        desk,
        1,
        manifest=manifest,
        text="more room is ordered",
        person="dana",
        at=minutes(5),
        despite="it comes tomorrow",
    )
    later = msgspec.structs.replace(DOOR, starts=minutes(90), noticed=minutes(90), updated=minutes(90))
    _, found = told(desk, manifest, notice(minutes(90), [DISK, later]))
    assert found is not None
    assert (found.number, found.severity, found.state) == (2, Severity.P0, IncidentState.DETECTED)
    rows = desk.find(IncidentAlert)
    assert [(row.incident, row.name) for row in rows] == [(1, "LimitExceeded"), (2, "ProbeDown")]


def test_an_end_is_told_to_each_incident_that_it_ends(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE)
    later = msgspec.structs.replace(DOOR, starts=minutes(90), noticed=minutes(90), updated=minutes(90))
    second = opened(desk, manifest, later, at=minutes(90))
    assert second.number == 2
    ends = [over(ONE, minutes(95)), over(later, minutes(95))]
    told(desk, manifest, notice(minutes(95), resolved=ends))
    assert [one.state for one in desk.find(Incident)] == [IncidentState.MITIGATED] * 2


def test_a_real_outage_does_not_become_part_of_a_drill(desk: MemoryDesk, manifest: Manifest) -> None:
    said = alert("IncidentDrill", drill="true")
    assert opened(desk, manifest, said).source == "drill"
    soon = msgspec.structs.replace(DOOR, starts=minutes(1), noticed=minutes(1), updated=minutes(1))
    found = told(desk, manifest, notice(minutes(1), [said, soon]))
    assert [(one.number, one.source) for one in found if one] == [(1, "drill"), (2, "alerts")]


def test_a_drill_does_not_become_part_of_what_is_real(desk: MemoryDesk, manifest: Manifest) -> None:
    opened(desk, manifest, ONE)
    said = alert("IncidentDrill", drill="true", starts=minutes(1))
    found = opened(desk, manifest, said, at=minutes(1))
    assert (found.number, found.source) == (2, "drill")


def test_what_a_drill_of_a_part_leaves_in_the_error_budget_stays_its_own(desk: MemoryDesk, manifest: Manifest) -> None:
    announce_drill(desk, "incident-drill@x", NOON, minutes(45), "omar")
    assert opened(desk, manifest, DOOR).source == "drill"
    end_drill(desk, "incident-drill@x", minutes(5))
    slow = alert("ErrorBudgetBurn", service="bank", burn="6", indicator="errors", starts=minutes(10))
    assert opened(desk, manifest, slow, at=minutes(10)).number == 1
    real = alert(kind="http", service="bank", instance="bank-1", probe="bank-1", starts=minutes(20))
    assert (opened(desk, manifest, real, at=minutes(20)).source) == "alerts"
