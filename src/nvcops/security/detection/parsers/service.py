"""A service's JSON lines: `time` and `event`, and whatever else it says. The bank's log is such a one."""

from __future__ import annotations

from typing import Any

import msgspec

from nvcops.core.detections import RAW, Class, Event, Value, typed
from nvcops.security.detection.parsers.lines import LineParser, Malformed, decoded, shown
from nvcops.security.detection.parsers.times import iso

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NAMES = {
    "event": "metadata.event_code",
    "level": "severity",
    "request_id": "metadata.uid",
    "instance": "device.hostname",
    "route": "http_request.url.path",
    "method": "http_request.http_method",
    "status": "http_response.code",
    "seconds": "duration",
    "staff": "actor.user.uid",
    "customer": "user.uid",
    "address": "src_endpoint.ip",
    "why": "status_detail",
    "message": "message",
}
_TEXTS = {"event", "request_id", "instance", "route", "method", "staff", "customer", "address", "why", "message"}


class ServiceParser(LineParser):
    """Lines of a service; sign-ins and what staff did are told by the events' names."""

    route = ("nvcbank", "json")

    def read(self, line: bytes) -> Event:
        """One JSON object."""
        content = _decode(line)
        time = content.pop("time", None)
        if not isinstance(time, str):
            raise Malformed("it has no time")
        moment = iso(time)
        raw, exact = decoded(line)
        exact = exact and "\\" not in raw
        fields: dict[str, Any] = {RAW: raw}
        for key, value in content.items():
            is_text = value.__class__ is str
            exact = exact and (is_text or key not in _TEXTS)
            fields[_NAMES.get(key) or f"unmapped.{key}"] = value if exact or not is_text else shown(value)
        found = typed(fields)
        _classify(found, str(content.get("event", "")), str(content.get("subject", "")))
        return self.event(moment, found, verbatim=exact)


def _classify(fields: dict[str, Value], event: str, subject: str) -> None:
    if event == "request":
        fields["class_uid"] = int(Class.HTTP)
        return
    kind, _, act = event.rpartition(".")
    if kind == "session" or act.startswith("session_"):
        act = act.removeprefix("session_")
        fields["class_uid"] = int(Class.AUTHENTICATION)
        fields["activity_name"] = "Logoff" if act in ("ended", "deleted") else "Logon"
        fields["status"] = "Failure" if act in ("failed", "locked", "refused") else "Success"
    elif kind == "staff":
        fields |= {"class_uid": int(Class.API), "api.operation": act, "status": "Success"}
        if subject:
            fields["resource.uid"] = subject
    else:
        fields["class_uid"] = int(Class.LIFECYCLE if kind in ("server", "part") else Class.BASE)
