"""Settings of the servers: dangerous ones, those that are not as platform.toml says, those that wait for a restart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from nvcops.core import queries
from nvcops.core.checks import Check, Finding, Verdict
from nvcops.core.manifest import Manifest
from nvcops.database.topics import Answers, listed, many, unknown, unread
from nvcops.database.written import same_setting

ASKED = queries.load("nvcops.database.checks", "settings.sql")
OF_STANDBYS = {"settings": ASKED["settings"]}

# --- Facts ---


class Setting(msgspec.Struct, frozen=True):
    """One setting, as in pg_settings; `source` "client": our own session has set it, and hides the server's."""

    name: str
    setting: str
    unit: str
    kind: str
    boot: str
    source: str
    pending: bool

    @property
    def hidden(self) -> bool:
        """Whether it is our session's, not the server's."""
        return self.source in ("client", "session")


class Override(msgspec.Struct, frozen=True):
    """A setting of a role ("" is of all roles), `here`: in this database alone."""

    role: str
    here: bool
    name: str
    value: str


class Role(msgspec.Struct, frozen=True):
    """A role that has sessions now, or had some since the server counts statements."""

    name: str


class InFile(msgspec.Struct, frozen=True):
    """A line of a configuration file, with what is wrong with it."""

    name: str
    setting: str
    error: str
    line: int | None = None
    file: str = ""
    applied: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was read; `unread` says which parts were refused, and why. `settings` are by server, "" is the primary.

    `files` is None where they may not be read.
    """

    unread: dict[str, str] = {}
    settings: dict[str, tuple[Setting, ...] | str] = {}
    overrides: tuple[Override, ...] = ()
    roles: tuple[Role, ...] = ()
    files: tuple[InFile, ...] | None = None


def parsed(answers: Answers, standbys: Mapping[str, Answers] | None = None) -> Seen:
    """The rows as types."""
    settings: dict[str, tuple[Setting, ...] | str] = {}
    for name, said in {"": answers, **(standbys or {})}.items():
        settings[name] = many(said, "settings", Setting) or unread(said).get("settings", "it did not say")
    read = unread(answers)
    return Seen(
        unread=read,
        settings=settings,
        overrides=many(answers, "overrides", Override),
        roles=tuple(sorted({*many(answers, "roles", Role), *many(answers, "askers", Role)}, key=lambda one: one.name)),
        files=None if "files" in read else many(answers, "files", InFile),
    )


# --- Rules ---

DANGEROUS = Check(
    "database.dangerous_settings", "Dangerous settings", "ALTER SYSTEM RESET {name}, and reload or restart"
)
DRIFT = Check("database.settings_drift", "Settings as written", "ALTER SYSTEM SET, or correct [database] settings")
PENDING = Check("database.pending_settings", "Settings in force", "restart the server in a maintenance window")
TIMEOUTS = Check(
    "database.role_timeouts", "Deadlines of roles", "ALTER ROLE {name} SET {setting} = '60s'; its next sessions have it"
)
CHECKS = (DANGEROUS, DRIFT, PENDING, TIMEOUTS)
_GRANT_FILES = (
    "GRANT SELECT ON pg_file_settings and EXECUTE ON pg_show_all_file_settings() lets mistakes in files be seen"
)
# By setting: the values that are dangerous, the verdict, and what happens then.
_DANGERS: Mapping[str, tuple[tuple[str, ...], Verdict, str]] = {
    "fsync": (("off",), Verdict.CRITICAL, "a crash of the host damages the data"),
    "full_page_writes": (("off",), Verdict.CRITICAL, "a crash of the host damages pages"),
    "synchronous_commit": (("off",), Verdict.CRITICAL, "a crash loses what customers were told is done"),
    "zero_damaged_pages": (("on",), Verdict.CRITICAL, "damaged rows vanish without an error"),
    "ignore_checksum_failure": (("on",), Verdict.CRITICAL, "damaged rows are read as if they were whole"),
    "ignore_invalid_pages": (("on",), Verdict.CRITICAL, "recovery goes on over missing pages"),
    "ignore_system_indexes": (("on",), Verdict.CRITICAL, "the catalogue's own unique keys are not looked at"),
    "allow_system_table_mods": (("on",), Verdict.CRITICAL, "anybody's mistake reaches the catalogue"),
    "session_replication_role": (("replica", "local"), Verdict.CRITICAL, "triggers and foreign keys do not act"),
    "data_sync_retry": (("on",), Verdict.CRITICAL, "what the kernel lost is taken for written"),
    "track_counts": (("off",), Verdict.CRITICAL, "autovacuum is blind"),
    "wal_level": (("minimal",), Verdict.CRITICAL, "neither standby nor backup can follow"),
    "track_activities": (("off",), Verdict.WARNING, "nobody sees who does what"),
    "restart_after_crash": (("off",), Verdict.WARNING, "the crash of one session ends the service"),
    "default_transaction_read_only": (("on",), Verdict.WARNING, "nobody can write who does not ask to"),
    "row_security": (("off",), Verdict.WARNING, "queries on guarded tables fail"),
    "exit_on_error": (("on",), Verdict.WARNING, "any mistake ends its session"),
    "password_encryption": (("md5",), Verdict.WARNING, "new passwords are kept as MD5: scram-sha-256 is the safe one"),
}
_DEADLINES = ("statement_timeout", "idle_in_transaction_session_timeout")
_NO_END = re.compile("0 *[a-z]*")


def findings(seen: Seen, manifest: Manifest, name: str) -> list[Finding]:
    """All lines about the settings of the primary and of its standbys."""
    wanted = manifest.database.settings if manifest.database else {}
    lines = []
    for server, settings in seen.settings.items():
        subject, overrides = server or name, () if server else seen.overrides
        if isinstance(settings, str):
            lines += [unknown(check, settings, subject=subject) for check in (DANGEROUS, DRIFT, PENDING)]
            continue
        files = seen.files if not server else ()
        made = [
            dangerous_finding(settings, overrides, seen.files or ()),
            drift_finding(settings, wanted, seen.files or ()),
            pending_finding(settings, files),
        ]
        lines += [msgspec.structs.replace(line, subject=subject) for line in made]
    roles = next((seen.unread[part] for part in ("roles", "overrides", "settings") if part in seen.unread), "")
    own = seen.settings.get("", "")
    if roles or isinstance(own, str):
        return [*lines, unknown(TIMEOUTS, roles or str(own), subject=name)]
    return [*lines, timeouts_finding(seen.roles, own, seen.overrides, seen.files or ())]


def _in_force(setting: Setting, files: Sequence[InFile]) -> str | None:
    """The server's value; None where our own session hides it, and the files may not be read or do not say."""
    if not setting.hidden:
        return setting.setting
    return next((line.setting for line in files if line.name == setting.name and line.applied), None)


def dangers_of(name: str, value: str, boot: str) -> tuple[Verdict, str] | None:
    """What a value of a setting means; None: nothing bad. A kind of plan that is switched off is a WARNING.

    >>> dangers_of("fsync", "off", "on")[0].name, dangers_of("fsync", "on", "on")
    ('CRITICAL', None)
    >>> dangers_of("enable_seqscan", "off", "on")[1], dangers_of("enable_partitionwise_join", "off", "off")
    ('the planner may not choose what is best', None)
    """
    values, verdict, why = _DANGERS.get(name, ((), Verdict.OK, ""))
    if value.lower() in values:
        return verdict, why
    if name.startswith("enable_") and value.lower() in ("off", "false", "no", "0") and boot == "on":
        return Verdict.WARNING, "the planner may not choose what is best"
    return None


def dangerous_finding(settings: Sequence[Setting], overrides: Sequence[Override], files: Sequence[InFile]) -> Finding:
    """The settings by which rows, or the service, may be lost; those of roles and of the database too."""
    boots = {setting.name: setting.boot for setting in settings}
    found: list[tuple[Verdict, str, str, str]] = []
    values = [(setting.name, _in_force(setting, files), "") for setting in settings]
    values += [(one.name, one.value, f" for {one.role or 'this database'}") for one in overrides]
    own = {(one.name, f" for {one.role}") for one in overrides if one.role}
    for name, value, where in values:
        danger = dangers_of(name, value or "", boots.get(name, ""))
        wished = (name, where) in own and danger and danger[0] is Verdict.WARNING  # a role's own, on purpose
        if danger and not wished:
            found.append((*danger, name, f"{name} = {value}{where}"))
    if not found:
        return DANGEROUS.finding(Verdict.OK, "none")
    found.sort(key=lambda one: -one[0])
    verdict, why, name, _ = found[0]
    observed = f"{listed(list(dict.fromkeys(one[3] for one in found)))}: {why}"
    return msgspec.structs.replace(DANGEROUS, next_step=DANGEROUS.next_step.format(name=name)).finding(
        verdict, observed
    )


def drift_finding(settings: Sequence[Setting], wanted: Mapping[str, str], files: Sequence[InFile]) -> Finding:
    """The settings that are not as platform.toml says; one that our own session hides is not known.

    >>> there = [Setting("work_mem", "4096", "kB", "integer", "4096", "default", False)]
    >>> def told(**wanted): return drift_finding(there, wanted, ()).observed
    >>> told(work_mem="4MB"), told(work_mem="64MB"), told(x="1"), told()
    ('1 as written', 'work_mem is 4096kB, not 64MB', 'x is not there, not 1', 'none are named')
    """
    if not wanted:
        return DRIFT.finding(Verdict.OK, "none are named")
    known = {setting.name: setting for setting in settings}
    wrong, hidden = [], []
    for name, value in wanted.items():
        setting = known.get(name)
        there = _in_force(setting, files) if setting else None
        if setting is None:
            wrong.append(f"{name} is not there, not {value}")
        elif there is None:
            hidden.append(name)
        elif not same_setting(value, there, setting.unit, setting.kind):
            wrong.append(f"{name} is {there}{setting.unit}, not {value}")
    if wrong:
        return DRIFT.finding(Verdict.WARNING, listed(wrong), limit=f"all {len(wanted)}")
    if hidden:
        return unknown(DRIFT, f"our own session hides {listed(hidden)}", _GRANT_FILES)
    return DRIFT.finding(Verdict.OK, f"{len(wanted)} as written")


def pending_finding(settings: Sequence[Setting], files: Sequence[InFile] | None) -> Finding:
    """What stands in the files and is not in force: it waits for a restart, or cannot be used at all."""
    pending = [setting.name for setting in settings if setting.pending]
    broken = [line for line in files or () if line.error and line.name not in pending]
    if broken:
        where = [f"{line.file.rpartition('/')[2]}:{line.line} {line.name} ({line.error})" for line in broken]
        check = msgspec.structs.replace(PENDING, next_step="correct the file, then SELECT pg_reload_conf()")
        return check.finding(Verdict.WARNING, f"cannot be used: {listed(where)}")
    if pending:
        return PENDING.finding(Verdict.WARNING, f"waits for a restart: {listed(pending)}")
    if files is None:
        return PENDING.finding(Verdict.OK, f"none waits for a restart; {_GRANT_FILES}")
    return PENDING.finding(Verdict.OK, "none waits for a restart")


def timeouts_finding(
    roles: Sequence[Role], settings: Sequence[Setting], overrides: Sequence[Override], files: Sequence[InFile]
) -> Finding:
    """Roles that ask, and whose statements or idle transactions have no end: one of them holds locks for ever.

    A deadline that our own session hides is taken to be there.
    """
    missing: list[tuple[str, str]] = []
    known = {setting.name: setting for setting in settings}
    for role in roles:
        for name in _DEADLINES:
            setting = known.get(name)
            value = _in_force(setting, files) if setting else None
            nearest = sorted(
                (one for one in overrides if one.name == name), key=lambda one: (one.role == "", not one.here)
            )
            own = [one.value for one in nearest if one.role in ("", role.name)]
            if _NO_END.fullmatch((own or [value or ""])[0]):
                missing.append((role.name, name))
    if not missing:
        return TIMEOUTS.finding(Verdict.OK, "all have them" if roles else "no role has asked anything")
    who, name = missing[0]
    observed = listed([f"{role} has no {setting}" for role, setting in missing])
    check = msgspec.structs.replace(TIMEOUTS, next_step=TIMEOUTS.next_step.format(name=who, setting=name))
    return check.finding(Verdict.WARNING, observed, subject=who)
