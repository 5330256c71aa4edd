"""PostgreSQL's jsonlog and csvlog, and the lines of pgaudit in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from nvcops.core.detections import FIELDS, RAW, Class, Event, Value, typed
from nvcops.core.postgres_time import PostgresTime
from nvcops.security.detection.parsers.lines import LINE_BYTES_MAX, LineParser, Malformed, decoded, shown
from nvcops.security.statements import plain

COLUMNS = [
    "timestamp",
    "user",
    "dbname",
    "pid",
    "remote",
    "session_id",
    "line_num",
    "ps",
    "session_start",
    "vxid",
    "txid",
    "error_severity",
    "state_code",
    "message",
    "detail",
    "hint",
    "internal_query",
    "internal_position",
    "context",
    "statement",
    "cursor_position",
    "func",
    "application_name",
    "backend_type",
    "leader_pid",
    "query_id",
]
_COLUMNS_MIN = 23  # PostgreSQL 9 to 12 end with the application's name
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_STATEMENT = re.compile(r"(?:duration: [\d.]+ ms +)?(?:statement|execute [^:]*|parse [^:]*|bind [^:]*): ")
_AUTHORIZED = re.compile(r"(?:replication )?connection authorized: user=(\S+)")
_AUDIT = re.compile(r"AUDIT: (?:SESSION|OBJECT),\d+,\d+,")
_KEPT = {
    "backend_type": "unmapped.backend_type",
    "application_name": "actor.app_name",
    "user": "actor.user.name",
    "dbname": "database.name",
    "pid": "actor.process.pid",
    "session_id": "actor.session.uid",
    "remote_host": "src_endpoint.ip",
    "remote_port": "src_endpoint.port",
    "error_severity": "severity",
    "state_code": "status_code",
    "message": "message",
    "detail": "status_detail",
}
_ACTIVITIES = {
    "select": "Read",
    "with": "Query",
    "copy": "Write",
    "insert": "Write",
    "update": "Update",
    "delete": "Delete",
    "truncate": "Delete",
    "create": "Create",
    "drop": "Delete",
    "alter": "Update",
}


class PostgresParser(LineParser):
    """Lines of jsonlog, or records of csvlog."""

    route = ("postgresql", "log")

    def __init__(self, source: str, zone: ZoneInfo) -> None:
        super().__init__(source)
        self._time = PostgresTime(zone)

    def read(self, line: bytes) -> Event:
        """One JSON object, or one record of CSV with all its lines."""
        raw, exact = decoded(line)
        record: Mapping[str, Any] = _decode(line) if line[:1] == b"{" else _record(raw)
        time = record.get("timestamp")
        message = record.get("message")
        if not isinstance(time, str) or not isinstance(message, str):
            raise Malformed("it has no timestamp or no message")
        exact = exact and "\\" not in raw and '""' not in raw and "[local]" not in raw
        fields: dict[str, Any] = {RAW: raw}
        for key, name in _KEPT.items():
            if (value := record.get(key)) is not None:
                exact = exact and (isinstance(value, str) or FIELDS.get(name) is int)
                fields[name] = value if exact or not isinstance(value, str) else shown(value)
        if fields.get("src_endpoint.ip") == "[local]":
            del fields["src_endpoint.ip"]
        rewritten = _classify(fields, str(record.get("statement") or ""))
        return self.event(self._time.milliseconds(time), typed(fields), verbatim=exact and not rewritten)


def _record(raw: str) -> dict[str, str]:
    try:
        values = next(csv.reader([raw], strict=True))
    except (csv.Error, StopIteration) as error:
        raise Malformed(f"no CSV: {error}") from None
    if len(values) < _COLUMNS_MIN:
        raise Malformed(f"it has {len(values)} columns, csvlog has {len(COLUMNS)}")
    record = {key: value for key, value in zip(COLUMNS, values, strict=False) if value}
    host, _, port = record.pop("remote", "").rpartition(":")
    return record | ({"remote_host": host, "remote_port": port} if host else {})


def csv_records(lines: Iterable[bytes]) -> Iterator[bytes]:
    r"""Joins the lines of one record of CSV: a statement may have line breaks. One that never ends is cut at a limit.

    >>> list(csv_records([b'a,"x\n', b'y",b\n', b'c\n']))
    [b'a,"x\ny",b\n', b'c\n']
    """
    pending: list[bytes] = []
    size, inside = 0, False
    for line in lines:
        pending.append(line)
        size += len(line)
        inside ^= line.count(b'"') % 2 == 1
        if not inside or size >= LINE_BYTES_MAX:
            yield b"".join(pending)
            pending, size, inside = [], 0, False
    if pending:
        yield b"".join(pending)


def _classify(fields: dict[str, Any], statement: str) -> bool:
    """Say what an event is; True where a field was added whose text does not stand in the line."""
    message: str = fields["message"]
    code = fields.get("status_code")
    if session := _session(message, code):
        fields |= {"class_uid": int(Class.AUTHENTICATION), **session}
        return False
    if found := _STATEMENT.match(message):
        _statement(fields, message[found.end() :])
        return True
    if found := _AUDIT.match(message):
        _audited(fields, message[found.end() :])
        return True
    fields["class_uid"] = int(Class.BASE)
    if statement:  # of an error: what was asked for in vain is told, too
        _statement(fields, statement)
        fields["status"] = "Failure"
        return True
    return False


def _session(message: str, code: object) -> dict[str, Any]:
    """What a message says of a sign-in or its end; nothing where it is about something else."""
    if code in ("28000", "28P01"):
        return {"activity_name": "Logon", "status": "Failure"}
    if found := _AUTHORIZED.match(message):
        kind = "Replication" if message.startswith("replication") else "Logon"
        return {"activity_name": kind, "status": "Success", "actor.user.name": found[1]}
    if message.startswith("disconnection: "):
        return {"activity_name": "Logoff", "status": "Success"}
    return {}


def _statement(fields: dict[str, Any], statement: str) -> None:
    text = shown(statement)
    asked, defined = plain(text)
    first = asked.partition(" ")[0]
    fields |= {"class_uid": int(Class.DATASTORE), "query_info.query_string": text, "query_info.data": asked}
    fields["status"] = "Success"
    if defined:
        fields["query_info.definition"] = defined
    if first in ("grant", "revoke"):
        fields |= {"class_uid": int(Class.PRIVILEGE), "activity_name": f"{first.title()} Privileges"}
    elif re.match(r"(create|alter|drop) (role|user|group)\b(?! mapping)", asked):
        fields |= {"class_uid": int(Class.ACCOUNT), "activity_name": first.title()}
    elif first in _ACTIVITIES:
        fields["activity_name"] = _ACTIVITIES[first]


def _audited(fields: dict[str, Any], rest: str) -> None:
    """CLASS,COMMAND,OBJECT_TYPE,OBJECT_NAME,STATEMENT,PARAMETER."""
    try:
        kind, command, _, name, statement, *_ = next(csv.reader([rest]))
    except (csv.Error, StopIteration, ValueError):
        raise Malformed("an AUDIT line of another form") from None
    _statement(fields, statement)
    found: dict[str, Value] = {"unmapped.audit_class": kind, "unmapped.audit_command": command}
    if name:
        found["resource.uid"] = name
    fields |= found
