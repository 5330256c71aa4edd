"""HAProxy's httplog: one line for each request, with or without the header of syslog."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import unquote_plus
from zoneinfo import ZoneInfo

from nvcops.core.detections import RAW, Class, Event, typed
from nvcops.security.detection.parsers.lines import LineParser, Malformed, decoded, shown
from nvcops.security.detection.parsers.times import LocalTime, month

_REQUEST = re.compile(
    r"(?P<ip>[0-9A-Fa-f.:]{2,45}):(?P<port>\d{1,5}) "
    r"\[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)\.(?P<ms>\d{3})\] "
    r"(?P<front>\S+) (?P<back>[^/\s]+)/(?P<server>\S+) [-+\d/]*/(?P<total>[-+]?\d+) (?P<code>-?\d+) \+?(?P<length>\d+) "
    r"\S+ \S+ (?P<ended>\S{4}) \S+ \S+ (?:\{(?P<headers>[^}]*)\} ){0,2}\"(?P<request>.*)\"?$"
)
_REFUSED = re.compile(
    r"(?P<ip>[0-9A-Fa-f.:]{2,45}):(?P<port>\d{1,5}) "
    r"\[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)\.(?P<ms>\d{3})\] "
    r"(?P<front>[^/\s]+)/(?P<bind>[^:\s]+): (?P<message>.*)$"
)
_OWN = re.compile(
    r"\[(?:NOTICE|WARNING|ALERT)\]|^(?:Server|Proxy|Backend|Health check)\b|\b(?:is (?:UP|DOWN)|has no server)\b"
)
_DECODINGS_MAX = 3  # encoded twice to slip past a filter is still an attack


class HaproxyParser(LineParser):
    """Requests, and HAProxy's own notices. Its times are the wall clock's of its zone."""

    route = ("haproxy", "http")

    def __init__(self, source: str, zone: ZoneInfo, near: dt.datetime) -> None:
        super().__init__(source)
        self._clock = LocalTime(zone, near)
        self._second = ("", 0)

    def read(self, line: bytes) -> Event:
        """One line."""
        raw, exact = decoded(line)
        found = _REQUEST.search(raw)
        if found is None:
            if refused := _REFUSED.search(raw):
                return self._refused(refused, raw, exact=exact)
            if _OWN.search(raw):
                return self.event(
                    self.time, {"class_uid": int(Class.LIFECYCLE), RAW: raw, "message": raw}, verbatim=exact
                )
            raise Malformed("neither a request nor a notice of HAProxy's")
        request = found["request"].removesuffix('"')
        method, _, rest = request.partition(" ")
        url, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/"):
            method, url = ("", request) if request == "<BADREQ>" else (method, rest)
        arguments = decoded_url(url)
        fields = {
            RAW: raw,
            "class_uid": int(Class.HTTP),
            "src_endpoint.ip": found["ip"],
            "src_endpoint.port": found["port"],
            "service.name": found["back"],
            "device.hostname": found["server"],
            "http_request.http_method": method,
            "http_request.url.url_string": url,
            "http_request.url.path": url.partition("?")[0],
            "http_request.args": arguments,
            "http_request.user_agent": found["headers"],
            "http_response.code": found["code"],
            "http_response.length": found["length"],
            "duration": int(found["total"]) / 1000,
            "unmapped.termination": found["ended"],
            "unmapped.frontend": found["front"],
        }
        return self.event(self._time(found), typed(fields), verbatim=exact and arguments == url)

    def _refused(self, found: re.Match[str], raw: str, *, exact: bool) -> Event:
        """A connection that came to no request: a handshake that failed, a header of a proxy that was none."""
        fields = {
            RAW: raw,
            "class_uid": int(Class.NETWORK),
            "activity_name": "Refuse",
            "message": found["message"],
            "src_endpoint.ip": found["ip"],
            "src_endpoint.port": found["port"],
            "unmapped.frontend": found["front"],
        }
        return self.event(self._time(found), typed(fields), verbatim=exact)

    def _time(self, found: re.Match[str]) -> int:
        second = found.string[found.start("day") : found.end("s")]
        if second != self._second[0]:
            day, hour, minute, at = int(found["day"]), int(found["h"]), int(found["m"]), int(found["s"])
            local = dt.datetime(int(found["year"]), month(found["month"]), day, hour, minute, min(at, 59))  # noqa: DTZ001 - `local` gives it its zone
            self._second = (second, self._clock.local(local))
        return self._second[1] + int(found["ms"])


def decoded_url(url: str) -> str:
    """Path and query with percent-encoding taken off, also where it was put on twice.

    >>> decoded_url("/a%252e%2e/b?q=1+2"), decoded_url("/a")
    ('/a../b?q=1 2', '/a')
    """
    for _ in range(_DECODINGS_MAX):
        if "%" not in url and "+" not in url:
            break
        url, before = unquote_plus(url), url
        if url == before:
            break
    return shown(url)
