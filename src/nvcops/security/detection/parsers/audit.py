"""Records of Linux' audit daemon. Each record is an event; those of one system call share `metadata.uid`."""

from __future__ import annotations

import re

from nvcops.core.detections import RAW, Class, Event, Value, typed
from nvcops.security.detection.parsers.lines import LineParser, Malformed, decoded, shown

_HEAD = re.compile(
    r"(?:node=(?P<node>\S+) )?type=(?P<type>\S+) msg=audit\((?P<s>\d{1,12})\.(?P<ms>\d{3}):(?P<id>\d+)\): ?"
)
_PAIR = re.compile(r"([\w-]{1,64})=(?:\"([^\"]*)\"|'([^']*)'|(\S+))")
_HEX = re.compile(r"(?:[0-9A-F]{2})+")
_ENCODED = re.compile(r"a\d+|proctitle|comm|exe|cmd|name|cwd|acct|key|data|path")
_PAIRS_MAX = 500
_AUTHENTICATION = ("USER_AUTH", "USER_LOGIN", "USER_LOGOUT", "CRED_ACQ")
_ACCOUNTS = ("ADD_USER", "DEL_USER", "ADD_GROUP", "DEL_GROUP", "USER_MGMT", "GRP_MGMT", "USER_CHAUTHTOK")
_NAMES = {
    "exe": "process.file.path",
    "comm": "process.name",
    "pid": "actor.process.pid",
    "auid": "actor.user.uid",
    "acct": "user.name",
    "addr": "src_endpoint.ip",
    "cwd": "process.working_directory",
    "proctitle": "process.cmd_line",
    "cmd": "process.cmd_line",
    "res": "status",
    "success": "status",
    "op": "api.operation",
}
_NOBODY = ("4294967295", "?", "(null)", "(none)")


class AuditParser(LineParser):
    """Records of audit.log."""

    route = ("linux", "auditd")

    def read(self, line: bytes) -> Event:
        """One record."""
        raw, exact = decoded(line)
        found = _HEAD.match(raw)
        if found is None:
            raise Malformed("no record of auditd")
        kind = found["type"]
        pairs, rewritten = _pairs(raw[found.end() :])
        fields: dict[str, Value | None] = {
            RAW: raw,
            "metadata.event_code": kind,
            "metadata.uid": found["id"],
            "device.hostname": found["node"],
            "class_uid": _class(kind),
        }
        for name, value in pairs.items():
            fields[_NAMES.get(name, f"unmapped.{name}")] = value
        status = pairs.get("res", pairs.get("success"))
        if status:
            fields["status"] = "Success" if status in ("success", "yes", "1") else "Failure"
        if kind == "EXECVE":
            arguments = [pairs[f"a{at}"] for at in range(_PAIRS_MAX) if f"a{at}" in pairs]
            fields |= {"process.cmd_line": " ".join(arguments), "activity_name": "Launch"}
            rewritten = True
        elif kind == "PATH":
            fields["file.path"] = pairs.get("name")
        time = int(found["s"]) * 1000 + int(found["ms"])
        return self.event(time, typed(fields), verbatim=exact and not rewritten)


def _pairs(rest: str) -> tuple[dict[str, str], bool]:
    """key=value, with what auditd wrote as hexadecimal digits read; True where something was."""
    pairs: dict[str, str] = {}
    rewritten = False
    text, _, translated = rest.partition("\x1d")  # what ausearch adds: names for numbers
    for found in _PAIR.finditer(text):
        if len(pairs) >= _PAIRS_MAX:
            break
        name, quoted, inner, bare = found.groups()
        if inner is not None:
            more, changed = _pairs(inner)  # msg='op=login acct="root" ...'
            pairs |= more
            rewritten = rewritten or changed
            continue
        value = quoted if quoted is not None else bare
        if bare and len(bare) > 2 and not bare.isdecimal() and _HEX.fullmatch(bare) and _ENCODED.fullmatch(name):
            value = shown(bytes.fromhex(bare).decode(errors="replace").rstrip("\x00").replace("\x00", " "))
            rewritten = True
        if value not in _NOBODY:
            pairs[name] = value
    if translated:
        pairs |= {f"name_{name}": value for name, value in _pairs(translated)[0].items()}
    return pairs, rewritten


def _class(kind: str) -> int:
    if kind in _AUTHENTICATION:
        return int(Class.AUTHENTICATION)
    if kind in _ACCOUNTS:
        return int(Class.ACCOUNT)
    if kind in ("EXECVE", "SYSCALL", "PROCTITLE", "USER_CMD"):
        return int(Class.PROCESS)
    if kind == "PATH":
        return int(Class.FILE)
    return int(Class.CONFIGURATION if kind in ("CONFIG_CHANGE", "DAEMON_END", "SERVICE_STOP") else Class.BASE)
