"""Lines of syslog and journald: sshd, sudo, su, cron, accounts. With a year and a zone (RFC 3339), or without."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from nvcops.core.detections import RAW, Class, Event, Value, typed
from nvcops.security.detection.parsers.lines import LineParser, Malformed, decoded
from nvcops.security.detection.parsers.times import LocalTime, iso

_HEAD = re.compile(
    r"(?:<\d{1,3}>1? ?)?(?:(?P<old>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)|(?P<iso>\d{4}-\d\d-\d\dT\S+)) (?P<host>\S+) "
    r"(?P<program>[^\s:\[]+)(?:\[(?P<pid>\d+)\])?:? (?P<message>.*)",
    re.DOTALL,
)
_SERVICES = {
    "sshd": "sshd",
    "sshd-session": "sshd",
    "sudo": "sudo",
    "su": "auth",
    "login": "auth",
    "systemd-logind": "auth",
    "polkitd": "auth",
    "useradd": "auth",
    "usermod": "auth",
    "userdel": "auth",
    "groupadd": "auth",
    "gpasswd": "auth",
    "passwd": "auth",
    "chage": "auth",
    "CRON": "cron",
    "cron": "cron",
    "crond": "cron",
    "crontab": "cron",
}
_READ_CHARACTERS_MAX = 4096  # what these programs say is shorter; whoever says more wants the expressions to take long
_FROM = r" from (?P<ip>\S+)(?: port (?P<port>\d+))?"
_SSH = (
    (re.compile(r"Accepted (?P<how>\S+) for (?P<user>\S+)" + _FROM), "Logon", "Success"),
    (re.compile(r"Failed (?P<how>\S+) for (?:invalid user )?(?P<user>.*)" + _FROM), "Logon", "Failure"),
    (re.compile(r"Invalid user (?P<user>.*)" + _FROM), "Preauth", "Failure"),
    (re.compile(r"(?:error: )?maximum authentication attempts exceeded for (?:invalid user )?(?P<user>.*)" + _FROM),
     "Preauth", "Failure"),
    (re.compile(r"(?:error: )?PAM: .* for (?:illegal user )?(?P<user>\S+) from (?P<ip>\S+)"), "Preauth", "Failure"),
    (re.compile(r"(?:Connection (?:closed|reset)|Disconnected) (?:by|from)(?: (?:authenticating|invalid))?"
                r"(?: user (?P<user>\S+))? (?P<ip>[\d.:a-fA-F]+) port (?P<port>\d+)"), "Logoff", ""),
)  # fmt: skip
_SUDO = re.compile(
    r"\s*(?P<actor>\S+) : (?P<why>[^;=]*?(?= ; ))?(?: ; )?(?:TTY=(?P<tty>\S+) ; )?(?:PWD=(?P<pwd>.*?) ; )"
    r"(?:USER=(?P<user>\S+) ; )(?:GROUP=\S+ ; )?(?:ENV=.*? ; )?(?:COMMAND=(?P<command>.*))?",
    re.DOTALL,
)
_SU = re.compile(r"(?P<failed>FAILED SU )?\(to (?P<user>\S+)\) (?P<actor>\S+) on (?P<tty>\S+)")
_ACCOUNT = re.compile(
    r"(?:new (?:user|group): )?name=(?P<user>[^,\s]+)|(?:add|added|delete|change) .{0,200}?'(?P<named>[^']+)'"
)
_GROUP = re.compile(r"to (?:shadow )?group '(?P<group>[^']+)'")
_CRON = re.compile(
    r"\((?P<user>[^)]+)\) (?P<what>CMD|REPLACE|BEGIN EDIT|END EDIT|LIST|DELETE|RELOAD)(?: \((?P<command>.*)\))?"
)


class SyslogParser(LineParser):
    """Lines of a host. `near` is the moment of reading, by which a year is found."""

    def __init__(self, source: str, zone: ZoneInfo, near: dt.datetime) -> None:
        super().__init__(source)
        self._clock = LocalTime(zone, near)

    route = ("linux", "syslog")

    def read(self, line: bytes) -> Event:
        """One line."""
        raw, exact = decoded(line)
        found = _HEAD.match(raw)
        if found is None:
            raise Malformed("no line of syslog")
        time = self._clock.syslog(found["old"]) if found["old"] else iso(found["iso"])
        message, program = found["message"], found["program"].rpartition("/")[2]
        service = _SERVICES.get(program, "syslog")
        fields: dict[str, Value | None] = {
            RAW: raw,
            "message": message,
            "device.hostname": found["host"],
            "process.name": program,
            "actor.process.pid": found["pid"],
            "class_uid": int(Class.BASE),
        }
        fields |= _READERS[service](message[:_READ_CHARACTERS_MAX]) if service in _READERS else {}
        return Event(time=time, source=self.source, route=("linux", service), fields=typed(fields), verbatim=exact)


def _ssh(message: str) -> dict[str, Value | None]:
    for expression, activity, status in _SSH:
        if found := expression.match(message):
            parts = found.groupdict()
            return {
                "class_uid": int(Class.AUTHENTICATION),
                "activity_name": activity,
                "status": status or None,
                "user.name": parts.get("user"),
                "actor.user.name": parts["user"] if status == "Success" else None,
                "src_endpoint.ip": parts.get("ip"),
                "src_endpoint.port": parts.get("port"),
                "auth_protocol": parts.get("how"),
            }
    return {}


def _sudo(message: str) -> dict[str, Value | None]:
    if (found := _SUDO.match(message)) is None:
        return {}
    why = found["why"]
    return {
        "class_uid": int(Class.PROCESS),
        "activity_name": "Launch",
        "status": "Failure" if why else "Success",
        "status_detail": why,
        "actor.user.name": found["actor"],
        "user.name": found["user"],
        "process.cmd_line": found["command"],
        "process.working_directory": found["pwd"],
    }


def _auth(message: str) -> dict[str, Value | None]:
    if found := _SU.search(message):
        return {
            "class_uid": int(Class.AUTHENTICATION),
            "activity_name": "Logon",
            "status": "Failure" if found["failed"] else "Success",
            "actor.user.name": found["actor"],
            "user.name": found["user"],
        }
    account, group = _ACCOUNT.search(message), _GROUP.search(message)
    if account is None:
        return {}
    return {
        "class_uid": int(Class.ACCOUNT),
        "user.name": account["user"] or account["named"],
        "group.name": group["group"] if group else None,
    }


def _cron(message: str) -> dict[str, Value | None]:
    if (found := _CRON.match(message)) is None:
        return {}
    return {
        "class_uid": int(Class.PROCESS),
        "activity_name": "Launch" if found["what"] == "CMD" else "Update",
        "actor.user.name": found["user"],
        "api.operation": found["what"],
        "process.cmd_line": found["command"],
    }


_READERS = {"sshd": _ssh, "sudo": _sudo, "auth": _auth, "cron": _cron}
