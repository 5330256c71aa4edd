"""Where a procedure says an alert of its own: it comes in as any other does, and what follows is decided at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from nvcops.adapters.files import routing_text
from nvcops.alerts import desk as alerts
from nvcops.alerts.own import SOURCE
from nvcops.alerts.routing_file import routing_of
from nvcops.alerts.said import Said
from nvcops.core import schedule
from nvcops.core.manifest import Manifest


@dataclass(frozen=True, slots=True)
class DeskAlarm:
    """See core.target.Alarm."""

    manifest: Manifest

    def say(self, labels: Mapping[str, str], annotations: Mapping[str, str], *, over: bool = False) -> None:
        """Say an alert, or that it is over."""
        from nvcops.adapters.records import open_records

        said = Said(labels=dict(labels), annotations=dict(annotations), over=over, source=SOURCE)
        routing = routing_of(self.manifest, routing_text(self.manifest))
        with closing(open_records(self.manifest)) as records, records.changing() as desk:
            at = schedule.now()
            alerts.take(desk, [said], at, manifest=self.manifest, routing=routing)
            alerts.tick(desk, at, manifest=self.manifest, routing=routing)
