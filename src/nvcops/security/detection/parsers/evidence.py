"""nvcops' own entries of evidence, one JSON object a line: who ran, asked, approved and refused what."""

from __future__ import annotations

from typing import Any

import msgspec

from nvcops.core.detections import RAW, Class, Event, typed
from nvcops.core.evidence.entry import Entry
from nvcops.security.detection.parsers.lines import LineParser, decoded, shown
from nvcops.security.detection.parsers.times import iso

_decode = msgspec.json.Decoder(Entry).decode


class EvidenceParser(LineParser):
    """Entries; the members of an entry's body are `unmapped.NAME`, those of objects in it `unmapped.NAME.NAME`."""

    route = ("nvcops", "evidence")

    def read(self, line: bytes) -> Event:
        """One entry."""
        entry = _decode(line)
        raw, exact = decoded(line)
        fields: dict[str, Any] = {
            RAW: raw,
            "class_uid": int(Class.API),
            "metadata.event_code": entry.kind,
            "metadata.uid": entry.id,
            "api.operation": entry.procedure or None,
            "api.service.name": entry.platform or None,
            "actor.user.name": entry.actor or None,
            "resource.uid": entry.subject or None,
            "actor.session.uid": entry.run or None,
        }
        for key, value in entry.body.items():
            parts = value.items() if isinstance(value, dict) else ()
            fields |= {f"unmapped.{key}.{name}": part for name, part in parts} or {f"unmapped.{key}": value}
        exact = exact and "\\" not in raw
        found = typed(fields)
        if not exact:
            found = {name: shown(value) if isinstance(value, str) else value for name, value in found.items()}
        return self.event(iso(entry.time), found, verbatim=exact)
