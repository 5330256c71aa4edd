"""Valkey's own log, and what its MONITOR shows: the log tells of replication and modules, only MONITOR of commands."""

from __future__ import annotations

import datetime as dt
import re
from itertools import islice
from zoneinfo import ZoneInfo

import re2

from nvcops.core.detections import RAW, Class, Event, Value, typed
from nvcops.security.detection.parsers.lines import LineParser, Malformed, decoded, shown
from nvcops.security.detection.parsers.times import LocalTime, month

_LOG = re.compile(
    r"(?P<pid>\d+):(?P<role>[A-Z]) (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) "
    r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)\.(?P<ms>\d{3}) (?P<level>[.\-*#]) (?P<message>.*)",
    re.DOTALL,
)
_SIGNAL = re.compile(r"\d+:signal-handler \((?P<s>\d{9,11})\) (?P<message>.*)", re.DOTALL)
_COMMAND = re.compile(r"(?P<s>\d{9,11})\.(?P<us>\d{6}) \[(?P<db>\d+) (?P<client>[^\]]+)\] (?P<rest>\".*)", re.DOTALL)
_WORD = re2.compile(r"\"((?:[^\"\\]|\\.)*)\"")  # linear, also where a text never ends
_ADDRESS = re.compile(r"\baddr=([\d.:a-fA-F\[\]]+):(\d+)|Client:? ?([\d.]+):(\d+)|host ([\d.]+)\b")
_LEVELS = {".": "debug", "-": "verbose", "*": "notice", "#": "warning"}
_WORDS_MAX = 64


class ValkeyParser(LineParser):
    """Lines of the server, and commands. The log's times are the wall clock's of its zone."""

    route = ("valkey", "log")

    def __init__(self, source: str, zone: ZoneInfo, near: dt.datetime) -> None:
        super().__init__(source)
        self._clock = LocalTime(zone, near)

    def read(self, line: bytes) -> Event:
        """One line."""
        raw, exact = decoded(line)
        if found := _LOG.match(raw):
            return self._log(found, raw, exact=exact)
        if found := _COMMAND.match(raw):
            return self._command(found, raw)
        if found := _SIGNAL.match(raw):
            fields = {RAW: raw, "class_uid": int(Class.LIFECYCLE), "message": found["message"]}
            return self.event(int(found["s"]) * 1000, typed(fields), verbatim=exact)
        raise Malformed("neither a line of Valkey's log nor of MONITOR")

    def _log(self, found: re.Match[str], raw: str, *, exact: bool) -> Event:
        day, hour, minute, second = (int(found[name]) for name in ("day", "h", "m", "s"))
        local = dt.datetime(int(found["year"]), month(found["month"]), day, hour, minute, min(second, 59))  # noqa: DTZ001 - `local` gives it its zone
        fields: dict[str, Value | None] = {
            RAW: raw,
            "class_uid": int(Class.LIFECYCLE),
            "message": found["message"],
            "severity": _LEVELS[found["level"]],
            "actor.process.pid": found["pid"],
        }
        if address := _ADDRESS.search(found["message"]):
            fields["src_endpoint.ip"] = address[1] or address[3] or address[5]
            fields["src_endpoint.port"] = address[2] or address[4]
        return self.event(self._clock.local(local) + int(found["ms"]), typed(fields), verbatim=exact)

    def _command(self, found: re.Match[str], raw: str) -> Event:
        words = _words(found["rest"])
        host, _, port = found["client"].rpartition(":")
        command = " ".join(words)
        fields: dict[str, Value | None] = {
            RAW: raw,
            "class_uid": int(Class.DATASTORE),
            "activity_name": "Query",
            "query_info.query_string": command,
            "query_info.data": command.lower(),
            "database.name": found["db"],
            "src_endpoint.ip": host if port.isdecimal() else None,
            "src_endpoint.port": port if port.isdecimal() else None,
        }
        return self.event(int(found["s"]) * 1000 + int(found["us"]) // 1000, typed(fields), verbatim=False)


def _words(rest: str) -> list[str]:
    r"""The words of a command.

    >>> _words('"SET" "a b" "1"'), _words(r'"SET" "a\"b" "1"')
    (['SET', 'a b', '1'], ['SET', 'a\\"b', '1'])
    """
    if "\\" not in rest:  # as most are
        return [shown(word) for word in rest.split('"', 2 * _WORDS_MAX)[1 : 2 * _WORDS_MAX : 2]]
    return [shown(word[1]) for word in islice(_WORD.finditer(rest), _WORDS_MAX)]
